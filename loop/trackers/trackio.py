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
    """The run is resumed and finished for each report, so that it is flushed and no thread remains."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._ledger = Ledger(target.run_dir / "tracking" / "trackio.sent")

    def has(self, name: str) -> bool:
        """Whether it is in the ledger."""
        return name in self._ledger

    def send(self, report: Report) -> None:
        """Send the figures with their axis, which is also trackio's step."""
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
        """Do nothing: nothing is open between reports."""


@contextmanager
def _quiet() -> Iterator[None]:
    """Redirect trackio's output to the run's log: standard output may be read by a program."""
    printed = io.StringIO()
    try:
        with redirect_stdout(printed):
            yield
    finally:
        log.info("trackio: %s", printed.getvalue().strip())
