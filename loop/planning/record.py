"""Records planned and measured memory of each phase of a run."""

from collections.abc import Iterator
from contextlib import contextmanager

from loop.planning import peaks
from loop.planning.plan import CONTEXT, Plan, trainings
from store import Store
from store.rounds import PhaseMemory, record_phase_memory

SAMPLES = ("sample", "swap", "evaluate", "gate")
"""Phases in which the sampler works."""


class MemoryRecord:
    """Measures phases of this process, relative to its memory before the first model.

    `plan` is None where none could be made. `samples` and `trains`: whether the sampler and the learner are in this
    process; other processes are not measured.
    """

    def __init__(self, plan: Plan | None, *, samples: bool = True, trains: bool = True) -> None:
        self._plan, self._samples, self._trains = plan, samples, trains
        self._start = peaks.resident()

    @contextmanager
    def of_phase(self, store: Store, number: int, phase: str, sampler_runs: bool) -> Iterator[None]:
        """Record the peak of the code inside, however it ends. `sampler_runs`: before the phase begins."""
        before, measured = peaks.resident(), peaks.begin_stretch()
        try:
            yield
        finally:
            peak = peaks.peak() if measured else None
            planned = self._planned(number, phase, sampler_runs)
            figures = PhaseMemory(
                planned_host=None if planned is None else planned[0],
                before_host=self._above(before),
                peak_host=self._above(peak),
                planned_card=None if planned is None else planned[1] or None,
                peak_card=peaks.card_peak(),
            )
            with store.transaction():
                record_phase_memory(store, number, phase, figures)

    def _above(self, size: int | None) -> int | None:
        return None if size is None or self._start is None else size - self._start

    def _planned(self, number: int, phase: str, sampler_runs: bool) -> tuple[int, int] | None:
        """(host, card) of the phase's part of the plan; None for phases that need no model."""
        if self._plan is None or not (self._trains if phase == "update" else self._samples):
            return None
        if phase in SAMPLES:
            names = ["sampling"]
        elif phase == "update":
            names = [name for name in trainings(self._plan) if (name == "cold_start") == (number == 0)]
        else:
            return None
        whole = [(self._plan.host_peak(name), self._plan.card_peak(name) - CONTEXT) for name in names]
        if phase == "update" and number > 0 and not (sampler_runs and self._samples):
            kept = (self._plan.sampler_kept, self._plan.sampler_card)
            whole = [(host - kept[0], card - kept[1]) for host, card in whole]
        return (max(host for host, _ in whole), max(card for _, card in whole)) if whole else None
