"""The reporting interface: what phases say of their progress, whoever shows it."""

import logging
import time
from collections.abc import Callable

log = logging.getLogger("ratchet")


SHOW_S = 0.1


LOG_S = 30.0
"""A bar's state goes to run.log so often: a record for later, and a sign of life for `status`."""


class Bar:
    """How far a piece of work is. `total` 0 is unknown; `figures` are shown beside it."""

    def __init__(self, what: str, total: int, unit: str, done: int, show: Callable[["Bar"], None]) -> None:
        self.what, self.unit, self.total, self.n = what, unit, total, done
        self.figures: dict[str, str] = {}
        self._show, self._first, self._started = show, done, time.monotonic()
        self._shown, self._logged = self._started, self._started

    def update(self, count: int = 1) -> None:
        """So many more are done."""
        self.n += count
        now = time.monotonic()
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
        return (self.n - self._first) / max(time.monotonic() - self._started, 1e-9)

    @property
    def left_s(self) -> float | None:
        """Seconds until the end at this rate; None where that is not known."""
        rate = self.per_second
        return (self.total - self.n) / rate if rate > 0 and self.total >= self.n > self._first else None

    def __str__(self) -> str:
        of = f" of {self.total:,}" if self.total else ""
        figures = "".join(f", {name.replace('_', ' ')} {value}" for name, value in self.figures.items())
        return f"{self.what}: {self.n:,}{of}, {self.per_second:.1f} {self.unit}/s{figures}"
