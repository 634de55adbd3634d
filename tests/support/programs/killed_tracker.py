"""Runs a scripted run in a folder, killed three times while its tracker writes an event file, then to its end."""

import os
import signal
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from tensorboard.summary import Writer

from loop.config.schema import Config
from loop.reporting import Observer
from loop.trackers.feed import open_trackers, tell_trackers
from loop.trackers.tensorboard import TensorBoard
from store import Store
from tests.support.scripted_run import in_process, run_scripted, scripted_config


def observe_and_die(config: Config, store: Store, stack: ExitStack, say: Callable[[str], None]) -> Observer:
    """The observer of a run that is killed before its second event file is whole."""
    left = 2

    class DyingWriter(Writer):  # type: ignore[misc]
        def close(self) -> None:
            nonlocal left
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            super().close()

    trackers = open_trackers(config, store, stack, say, lambda name, target: TensorBoard(target, DyingWriter))
    return lambda store: tell_trackers(store, trackers, say)


def main(folder: Path) -> None:
    """Three sessions that die, one that does not."""
    config = scripted_config(folder, tracking={"report_to": ["tensorboard"]})
    for _ in range(3):
        died = in_process(lambda: run_scripted(folder / "run", config, open_observer=observe_and_die))
        assert died == signal.SIGKILL
    assert in_process(lambda: run_scripted(folder / "run", config)) == 0


if __name__ == "__main__":
    main(Path(sys.argv[1]))
