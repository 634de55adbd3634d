"""The interface through which the loop reports progress. Views implement it; phases import no view."""

import logging
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol

from store import Store

log = logging.getLogger("ratchet")

SHOW_S = 0.1
LOG_S = 30.0
"""Seconds between two records of a bar in run.log, which are also signs of life for `status`."""

Observer = Callable[[Store], None]
"""Called after each recorded phase or round; it reads the store."""


class Bar:
    """Progress of a piece of work. `total` 0 is unknown; `figures` are shown beside it. `clock` returns seconds."""

    def __init__(
        self,
        what: str,
        total: int,
        unit: str,
        done: int,
        show: Callable[["Bar"], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.what, self.unit, self.total, self.n = what, unit, total, done
        self.figures: dict[str, str] = {}
        self._clock = clock
        self._show, self._first, self._started = show, done, clock()
        self._shown, self._logged = self._started, self._started

    def update(self, count: int = 1) -> None:
        """Advance by `count`."""
        self.n += count
        now = self._clock()
        if now - self._shown >= SHOW_S:
            self._shown = now
            self._show(self)
        if now - self._logged >= LOG_S:
            self._logged = now
            log.info("  %s", str(self))

    def note(self, **figures: str) -> None:
        """Show these figures beside the bar."""
        # A new dictionary: another thread may be drawing the old one.
        self.figures = {**self.figures, **figures}

    @property
    def per_second(self) -> float:
        """The rate of this session's work."""
        return (self.n - self._first) / max(self._clock() - self._started, 1e-9)

    @property
    def left_s(self) -> float | None:
        """Seconds until the end at this rate; None if unknown."""
        rate = self.per_second
        return (self.total - self.n) / rate if rate > 0 and self.total >= self.n > self._first else None

    def __str__(self) -> str:
        of = f" of {self.total:,}" if self.total else ""
        figures = "".join(f", {name.replace('_', ' ')} {value}" for name, value in self.figures.items())
        return f"{self.what}: {self.n:,}{of}, {self.per_second:.1f} {self.unit}/s{figures}"


class Reporter(Protocol):
    """The interface that phases report to."""

    def say(self, line: str) -> None:
        """Show a line, and keep it in the run's log file."""

    def bar(self, what: str, total: int, unit: str, done: int = 0) -> AbstractContextManager[Bar]:
        """A progress bar with rate and time left; it starts at the progress of an earlier session."""


class RunReporter(Reporter, Protocol):
    """The interface that the controller reports to: the state of a run besides its phases' messages."""

    def phase_begins(self, store: Store, number: int, phase: str) -> None:
        """A phase of a round begins, or continues after an interruption."""

    def phase_ends(self, number: int, phase: str, seconds: float) -> None:
        """A phase has finished; `seconds` are those of this session."""

    def round_ends(self, store: Store, number: int) -> None:
        """A round has finished with a decision."""

    def show_log(self, store: Store) -> None:
        """The run has finished: show its accuracy log."""
