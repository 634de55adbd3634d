"""`python -m tests.support.take_lock DIR`: take a run's lock and give it back."""

import sys
from pathlib import Path

from store import run_lock

if __name__ == "__main__":
    with run_lock(Path(sys.argv[1])):
        pass
