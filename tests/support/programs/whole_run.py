"""Makes a finished scripted run in FOLDER/run."""

import sys
from pathlib import Path

from tests.support.scripted_run import run_scripted, scripted_config

if __name__ == "__main__":
    run_scripted(Path(sys.argv[1]) / "run", scripted_config(Path(sys.argv[1])))
