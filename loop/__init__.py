"""When: rounds, phases, gate, configuration and views. `open_run` reads a run from Python."""

from loop.reading.run_reader import Run, open_run

__all__ = ["Run", "open_run"]
