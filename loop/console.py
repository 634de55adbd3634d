"""What a person sees while the loop runs: one line a finished step, a bar on anything that takes long."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from tqdm import tqdm

log = logging.getLogger("ratchet")


class Console:
    """Lines on standard output and bars on standard error; a bar only where that is a terminal."""

    def __init__(self, *, quiet: bool = False) -> None:
        self.quiet = quiet

    def say(self, line: str) -> None:
        """Print a line, and keep it in the run's log file."""
        log.info(line)
        if not self.quiet:
            tqdm.write(line, file=sys.stdout)
            sys.stdout.flush()

    @contextmanager
    def bar(self, what: str, total: int, unit: str, done: int = 0) -> Iterator["tqdm[None]"]:
        """A progress bar with rate and time left, starting at what an earlier session did."""
        disable = True if self.quiet else None
        with tqdm(total=total, initial=done, desc=what, unit=unit, disable=disable, leave=False) as bar:
            yield bar
