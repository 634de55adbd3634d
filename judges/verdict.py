"""A verdict: what a judge says of one output."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from judges.extraction import extract_answer

Outcome = Literal["correct", "wrong", "unparsable", "truncated", "judge_error"]
OUTCOMES: tuple[str, ...] = get_args(Outcome)

Rule = Callable[[str, Sequence[str]], float]
"""(extracted answer, accepted answers) -> score in [0, 1]."""


@dataclass(frozen=True)
class Judge:
    """A matching rule with the name and version that verdicts are stored under."""

    name: str
    version: str
    rule: Rule
    threshold: float = 1.0


@dataclass(frozen=True)
class Verdict:
    """Extracted answer (None where none could be read), score in [0, 1], and outcome."""

    extracted: str | None
    score: float
    outcome: Outcome


def give_verdict(judge: Judge, text: str, answers: Sequence[str], *, finish_reason: str, needs_marker: bool) -> Verdict:
    """Extract the final answer from `text` and match it against the accepted answers.

    What cannot be judged is not guessed: an output that ran into its length limit before it gave
    an answer is `truncated`, one that ended without an answer is `unparsable`; neither is `wrong`.
    `needs_marker` is true for chains of thought; a direct answer may stand alone.
    """
    extracted = extract_answer(text, needs_marker=needs_marker)
    if finish_reason == "length":
        return Verdict(extracted, 0.0, "truncated")
    if extracted is None:
        return Verdict(None, 0.0, "unparsable")
    score = judge.rule(extracted, answers)
    return Verdict(extracted, score, "correct" if score >= judge.threshold else "wrong")
