"""The gate and the best-of-N reader as plain functions, for callbacks of other trainers: no store, no run."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

from judges import Output, find_judge
from judges.verdict import read
from judges.vote import vote
from loop.evaluation.best_of import Ballot, weighted_votes
from loop.evaluation.sequential_test import Evidence, mean_of_units, sequential_test


@dataclass(frozen=True)
class GateResult:
    """The gate's decision: whether the candidate may be served, and whether it is the best from now on."""

    accepted: bool
    better: bool
    seen: Evidence

    @property
    def reason(self) -> str:
        """The difference with its standard error, in points."""
        difference, error = 100 * self.seen.difference, 100 * self.seen.error
        return f"{difference:+.1f} points (standard error {error:.1f}) on {self.seen.questions} questions"


Scores = Sequence[float]
"""A score in [0, 1] for each question, in one order for both policies."""


def gate(
    candidate: Scores,
    best: Scores,
    *,
    margin: float = 0.01,
    level: float = 0.05,
    units: Sequence[Hashable] | None = None,
) -> GateResult:
    """Apply the gate's sequential test to known scores.

    Accepts a candidate that is not worse than the best by `margin`. The candidate becomes the best if it is better by
    more than a standard error. Scores of one unit (both orders of a preference) count as one question. Raises
    ValueError if the two lists differ in length or are empty.
    """
    if len(candidate) != len(best) or not candidate:
        raise ValueError(f"give a score for each question, not {len(candidate)} and {len(best)}")
    differences = [mine - theirs for mine, theirs in zip(candidate, best, strict=True)]
    if units is not None:
        differences = mean_of_units(differences, units)
    return _result(*sequential_test(lambda _: differences, len(differences), len(differences), margin, level))


def gate_asking(
    ask: Callable[[range], tuple[Scores, Scores]],
    questions: int,
    *,
    first_look: int = 500,
    margin: float = 0.01,
    level: float = 0.05,
) -> GateResult:
    """Apply the same test, but ask more questions only while it is undecided.

    `ask(places)` returns the scores of the candidate and of the best on the questions with these indices. No index is
    asked twice.
    """
    differences: list[float] = []

    def first(count: int) -> list[float]:
        mine, theirs = ask(range(len(differences), count))
        differences.extend(a - b for a, b in zip(mine, theirs, strict=True))
        return differences

    return _result(*sequential_test(first, min(first_look, questions), questions, margin, level))


def _result(accepted: bool, seen: Evidence) -> GateResult:
    return GateResult(accepted, accepted and seen.difference > seen.error, seen)


@dataclass(frozen=True)
class BestOf:
    """The answer of N outputs to one question, chosen in three ways; None if no output has an answer.

    `majority` is the most frequent answer. `verified` is the answer of the output with the highest
    verifier score; `weighted` is the winner of a vote in which each output has weight exp(its score).
    """

    majority: str | None
    verified: str | None
    weighted: str | None


def read_best_of(
    outputs: Sequence[str],
    token_scores: Sequence[Sequence[float]] | None = None,
    *,
    judge: str = "exact",
    choices: Sequence[str] = (),
    needs_marker: bool = True,
) -> BestOf:
    """Read N outputs of one question: by vote, and with `token_scores` also by a verifier.

    `token_scores` has for each output one number per token, in nats: the log-probability under the later policy minus
    that under the earlier one (`policies.verifier.token_logprobs`). An output's score is that of its worst token. The
    judge decides whether two answers are the same. Raises JudgeSpecError for an unknown judge.
    """
    rule = find_judge(judge)

    def same(left: str, right: str) -> bool:
        return rule.same(left, right, choices)

    read_ = [read(rule, Output(text, (), choices, "stop", needs_marker)) for text in outputs]
    answers = [None if settled is not None else answer for answer, _, settled in read_]
    majority = vote(answers, same).winner
    if token_scores is None:
        return BestOf(majority, None, None)
    scored = zip(answers, token_scores, strict=True)
    ballots = [Ballot(answer, correct=False, score=min(each, default=0.0)) for answer, each in scored]
    by_weight = weighted_votes(ballots, same)
    return BestOf(
        majority,
        _answer_of(ballots, [each.score for each in ballots]),
        _answer_of(ballots, by_weight),
    )


def _answer_of(ballots: Sequence[Ballot], weights: Sequence[float]) -> str | None:
    answered = [n for n, each in enumerate(ballots) if each.answer is not None]
    return ballots[max(answered, key=lambda n: (weights[n], -n))].answer if answered else None
