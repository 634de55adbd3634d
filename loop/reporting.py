"""Reporting: what the loop says of its progress, whoever shows it. Views implement it; phases import no view."""

import logging
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol

from store import Store

log = logging.getLogger("ratchet")

SHOW_S = 0.1
LOG_S = 30.0
"""A bar's state goes to run.log so often: a record for later, and a sign of life for `status`."""

Observer = Callable[[Store], None]
"""Called whenever a phase or a round was recorded; it reads the store."""


class Bar:
    """How far a piece of work is. `total` 0 is unknown; `figures` are shown beside it. `clock` gives seconds."""

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
        """Count so many more as done."""
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
        """Seconds until the end at this rate; None where that is not known."""
        rate = self.per_second
        return (self.total - self.n) / rate if rate > 0 and self.total >= self.n > self._first else None

    def __str__(self) -> str:
        of = f" of {self.total:,}" if self.total else ""
        figures = "".join(f", {name.replace('_', ' ')} {value}" for name, value in self.figures.items())
        return f"{self.what}: {self.n:,}{of}, {self.per_second:.1f} {self.unit}/s{figures}"


class Reporter(Protocol):
    """What phases report to."""

    def say(self, line: str) -> None:
        """Show a line, and keep it in the run's log file."""

    def bar(self, what: str, total: int, unit: str, done: int = 0) -> AbstractContextManager[Bar]:
        """A progress bar with rate and time left, starting at what an earlier session did."""


class RunReporter(Reporter, Protocol):
    """What the controller reports to: where a run is, besides what its phases say."""

    def phase_begins(self, store: Store, number: int, phase: str) -> None:
        """A phase of a round begins, or goes on after an interruption."""

    def phase_ends(self, number: int, phase: str, seconds: float) -> None:
        """A phase is through; `seconds` are those of this session."""

    def round_ends(self, store: Store, number: int) -> None:
        """A round is through and decided."""

    def show_log(self, store: Store) -> None:
        """The run is through: show its accuracy log."""
