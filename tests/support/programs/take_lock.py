"""Takes a run's lock and gives it back."""

import sys
from pathlib import Path

from store import run_lock

if __name__ == "__main__":
    with run_lock(Path(sys.argv[1])):
        pass
