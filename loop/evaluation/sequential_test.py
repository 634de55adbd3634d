"""A sequential test of a candidate: it asks more questions only while the result is open.

Wald's sequential probability ratio test (Ann. Math. Stat. 16, 1945) on the paired differences of two policies, with
the variance estimated from them. It tests after every few hundred questions, and stops when the questions are used up.
"""

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Literal

Outcome = Literal["accept", "reject", "open"]

CLEAR = 2.0
"""Standard errors from zero at which one policy is clearly better."""


@dataclass(frozen=True)
class Evidence:
    """A candidate's score against another policy's, on the questions so far.

    `difference` is the mean difference per question, `error` its standard error. `odds` is the log-likelihood ratio of
    "equal" against "worse by the margin".
    """

    questions: int
    difference: float
    error: float
    odds: float


def evidence(differences: Sequence[float], margin: float) -> Evidence:
    """Evidence from the differences of single questions. Raises ValueError if there are none.

    The mean square includes one extra question with a difference of 1, so that the variance is not zero if both
    policies agree everywhere.
    """
    if not differences:
        raise ValueError("there is no question to compare on")
    questions, mean = len(differences), sum(differences) / len(differences)
    variance = (sum(each * each for each in differences) + 1.0) / questions - mean * mean
    odds = questions * margin * (mean + margin / 2) / variance
    return Evidence(questions, mean, math.sqrt(variance / questions), odds)


def mean_of_units(differences: Sequence[float], units: Sequence[Hashable]) -> list[float]:
    """The mean difference of each unit, in the order of their first questions; `units` has each question's unit."""
    found: dict[Hashable, list[float]] = {}
    for unit, difference in zip(units, differences, strict=True):
        found.setdefault(unit, []).append(difference)
    return [sum(each) / len(each) for each in found.values()]


def decide(seen: Evidence, level: float, *, last: bool) -> Outcome:
    """Accept or reject once the odds pass log((1 - level) / level), in either direction.

    If no question is left, decide for the nearer hypothesis: equal, or worse by the margin.
    """
    threshold = math.log((1.0 - level) / level)
    if seen.odds >= threshold or (last and seen.odds >= 0.0):
        return "accept"
    return "reject" if last or seen.odds <= -threshold else "open"


def sequential_test(
    ask: Callable[[int], Sequence[float]], first: int, questions: int, margin: float, level: float
) -> tuple[bool, Evidence]:
    """Whether a candidate is accepted, and the evidence for it.

    `ask(count)` gives the differences of the first `count` questions. It is asked for more until both are clear:
    whether the candidate is accepted, and which policy is better; or until no question is left. What later questions
    say outweighs an earlier look.
    """
    accepted = False
    for count in looks(first, questions):
        seen = evidence(ask(count), margin)
        outcome = decide(seen, level, last=count == questions)
        accepted = outcome == "accept" or (accepted and outcome == "open")
        if outcome == "reject" or (accepted and abs(seen.difference) > CLEAR * seen.error):
            break
    return accepted, seen


def looks(first: int, questions: int) -> list[int]:
    """The numbers of questions at which the test decides: `first`, then twice as many each time, and all."""
    counts = []
    while first < questions:
        counts.append(first)
        first *= 2
    return [*counts, questions]
