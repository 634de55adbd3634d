"""Compares two policies on the same held-out questions."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from loop.evaluation.statistics import mcnemar_p_value
from store import Store
from store.rounds import GATE, has_gate_split
from store.summary import compared

if TYPE_CHECKING:
    from loop.config.schema import Config


@dataclass(frozen=True)
class Comparison:
    """Numbers of questions that both answered, and that only one of them answers right; with the paired test's p."""

    questions: int
    gained: int
    lost: int

    @property
    def p_value(self) -> float:
        """Two-sided exact McNemar."""
        return mcnemar_p_value(self.gained, self.lost)

    @property
    def delta(self) -> float:
        """The difference in accuracy on the questions that both answered."""
        return (self.gained - self.lost) / self.questions if self.questions else 0.0


def gate_split(store: Store, reported: str) -> str:
    """The split that the gate decides by; the reported one if the run has no gate split."""
    return GATE if has_gate_split(store) else reported


def gate_styles(config: "Config") -> list[str]:
    """The styles in which the gate asks its questions: the trained one, then those it guards."""
    guarded = [] if config.gate.rule == "always" else config.gate.guard
    return list(dict.fromkeys([config.sampling.style, *guarded]))


def compare(store: Store, policy: int, other: int, split: str, style: str) -> Comparison:
    """The questions that `policy` gained and lost against `other`."""
    return Comparison(*compared(store, policy, other, split, style))
