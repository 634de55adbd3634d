"""A scripted run in FOLDER/run that is killed at the crash point LAST; it goes on where an earlier one was killed."""

import os
import signal
import sys
from pathlib import Path

from tests.support.scripted_run import run_scripted, scripted_config


def kill_at(last: str) -> None:
    """Kill this process where the name is that of the last crash point."""
    if last == sys.argv[2]:
        os.kill(os.getpid(), signal.SIGKILL)


folder = Path(sys.argv[1])
run_scripted(folder / "run", scripted_config(folder), kill_at)
