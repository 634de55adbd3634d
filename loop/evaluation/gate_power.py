"""The number of questions from which on the gate is likely to see a difference between two policies."""

import math
from statistics import NormalDist

from loop.config.schema import Config
from loop.evaluation.sequential_test import CLEAR

DIFFERENCE = 0.05
"""The difference in accuracy that the gate should see."""

DIFFERENT = 0.12
"""Share of the questions that only one of the two policies answers right; the largest of `benchmarks/gate.py`."""

POWER = 0.8

FEW = {
    "sequential": "with fewer, chance decides much of it",
    "improve": "with fewer it accepts little",
    "not_worse": "with fewer it rejects little",
}
"""What too few questions lead to, by the gate's rule; rule `always` compares nothing."""


def questions_to_see(difference: float, different: float, errors: float, power: float = POWER) -> int:
    """The questions from which a difference in accuracy is more than `errors` standard errors, with this probability.

    Normal approximation of McNemar's test (Connor, Biometrics 43, 1987). `different` is the share of questions that
    only one of the two policies answers right.
    """
    chance = NormalDist().inv_cdf(power) * math.sqrt(different - difference * difference)
    return math.ceil(((errors * math.sqrt(different) + chance) / difference) ** 2)


def gate_warning(config: Config, questions: int) -> str | None:
    """A line if so few questions are unlikely to show the gate a difference of 5 points; else None."""
    rule = config.gate.rule
    if rule == "always":
        return None
    errors = CLEAR if rule == "sequential" else NormalDist().inv_cdf(1.0 - config.gate.level / 2.0)
    enough = questions_to_see(DIFFERENCE, DIFFERENT, errors)
    if questions >= enough:
        return None
    return (
        f"warning: the gate has {questions:,} questions; a difference of {100 * DIFFERENCE:.0f} points is likely seen"
        f" from about {enough:,}, and {FEW[rule]}: raise questions.gate_share or gate.limit, or name rows 'gate'"
    )
