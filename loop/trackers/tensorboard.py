"""TensorBoard: one event file per report in `DIR/tracking/tensorboard`, whole or absent."""

import shutil
from collections.abc import Callable

from tensorboard.summary import Writer

from loop.trackers import Report, Target


class TensorBoard:
    """A report's file has its name, so an existing file means that the report was sent; nothing is written twice."""

    def __init__(self, target: Target, open_writer: Callable[[str], Writer] = Writer) -> None:
        self._open_writer = open_writer
        self._folder = target.run_dir / "tracking" / "tensorboard"
        self._unfinished = target.run_dir / "tracking" / ".tensorboard"
        self._folder.mkdir(parents=True, exist_ok=True)

    def has(self, name: str) -> bool:
        """Whether its file exists."""
        return (self._folder / _file_name(name)).exists()

    def send(self, report: Report) -> None:
        """Write to a temporary file, then rename: a kill leaves nothing that TensorBoard would show."""
        shutil.rmtree(self._unfinished, ignore_errors=True)
        writer = self._open_writer(str(self._unfinished))
        for x, figures in report.points:
            for name, value in figures.items():
                writer.add_scalar(name, value, x, wall_time=report.time)
        writer.close()
        (written,) = self._unfinished.iterdir()
        written.replace(self._folder / _file_name(report.name))
        self._unfinished.rmdir()

    def close(self) -> None:
        """Do nothing: nothing is open between reports."""


def _file_name(name: str) -> str:
    """TensorBoard reads the files of a directory in the order of their names."""
    return f"events.out.tfevents.{name}"
