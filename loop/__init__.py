"""When: configuration, rounds, phases, gate and accuracy log. The one room that knows all wings."""

from loop.reading.run_reader import Run, open_run

__all__ = ["Run", "open_run"]
