"""The loop: rounds, phases, gate, configuration and views; the only package that imports the others.

`open_run` reads a run from Python.
"""

from loop.reading.run_reader import Run, open_run

__all__ = ["Run", "open_run"]
