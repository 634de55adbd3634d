"""trackio: a local database (`TRACKIO_DIR`), or a Space if the environment names one."""

import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout

import trackio

from loop.trackers import Report, Target
from loop.trackers.ledger import Ledger

log = logging.getLogger("ratchet")


class Trackio:
    """The run is resumed for each report and left again: what was sent is flushed, no thread stays behind."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._ledger = Ledger(target.run_dir / "tracking" / "trackio.sent")

    def has(self, name: str) -> bool:
        """Is it in the ledger?"""
        return name in self._ledger

    def send(self, report: Report) -> None:
        """The axis goes with the figures, and is trackio's step too."""
        with _quiet():
            trackio.init(
                project=self._target.project,
                name=f"{self._target.name}-{self._target.id[:6]}",
                config=self._target.configuration,
                resume="allow",
                embed=False,
                auto_log_gpu=False,
                auto_log_cpu=False,
            )
            self._ledger.add(report.name)
            for x, figures in report.points:
                trackio.log({**figures, report.axis: x}, step=x)
            trackio.finish()

    def close(self) -> None:
        """Nothing is open between reports."""


@contextmanager
def _quiet() -> Iterator[None]:
    """What trackio prints goes to the run's log: standard output may be read by a program."""
    printed = io.StringIO()
    try:
        with redirect_stdout(printed):
            yield
    finally:
        log.info("trackio: %s", printed.getvalue().strip())
