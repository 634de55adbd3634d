"""Verdicts by majority, for questions without an accepted answer."""

from judges.verdict import Verdict
from judges.vote import Vote


def by_vote(counted: Vote, readings: list[tuple[str | None, tuple[str, ...], Verdict | None]]) -> list[Verdict]:
    """Verdicts without an accepted answer: the majority counts as correct, and the share of votes is the score.

    So the difference of two samples' scores is ScPO's weight of their pair (arXiv 2411.04109). Without
    a majority nothing is guessed: every answer is a `judge_error` with the flag `tie`.
    """
    most = max(counted.votes, default=0)
    verdicts = []
    for (extracted, flags, settled), votes, share in zip(readings, counted.votes, counted.shares, strict=True):
        if settled is not None:
            verdicts.append(settled)
        elif counted.margin == 0.0:
            verdicts.append(Verdict(extracted, share, "judge_error", (*flags, "tie")))
        else:
            verdicts.append(Verdict(extracted, share, "correct" if votes == most else "wrong", flags))
    return verdicts
