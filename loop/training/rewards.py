"""Rewards of judged samples, by name, and the advantages of a question's samples.

A recipe weighs them (`grpo.rewards`). Samples that could not be judged are left out before.
"""

import statistics
from collections.abc import Callable, Sequence

from loop.training.pair_rules import JudgedSample

Reward = Callable[[Sequence[JudgedSample]], list[float]]
"""The judged samples of one question -> one reward per sample, in [0, 1]."""


def answer(group: Sequence[JudgedSample]) -> list[float]:
    """1 if the answer is right, else 0."""
    return [float(sample.outcome == "correct") for sample in group]


def form(group: Sequence[JudgedSample]) -> list[float]:
    """1 if there is an answer in the requested form, right or wrong (UnifiedReward-Think, 2505.03318), else 0."""
    return [float(sample.outcome in ("correct", "wrong")) for sample in group]


def brevity(group: Sequence[JudgedSample]) -> list[float]:
    """If all are right, the tokens saved against the longest, as a share of it; else 0.

    Length counts only if nothing else is left to learn (ConciseR, arXiv 2505.21178; GRPO-lambda, 2505.18086).
    """
    if any(sample.outcome != "correct" for sample in group):
        return [0.0] * len(group)
    longest = max(len(sample.token_ids) for sample in group)
    return [1.0 - len(sample.token_ids) / longest for sample in group]


REWARDS: dict[str, Reward] = {"answer": answer, "format": form, "brevity": brevity}


def total_rewards(group: Sequence[JudgedSample], weights: dict[str, float]) -> list[float]:
    """The weighted sum of the recipe's rewards for each sample."""
    columns = [[weight * value for value in REWARDS[name](group)] for name, weight in weights.items()]
    return [sum(values) for values in zip(*columns, strict=True)]


def advantages(rewards: Sequence[float], *, scale: bool) -> list[float] | None:
    """Rewards minus their mean, with `scale` divided by their standard deviation; None if all are equal.

    Dividing makes a trivial difference as large as that of right and wrong, so groups that differ in brevity only must
    not be scaled (Dr. GRPO, arXiv 2503.20783, never does).
    """
    if len(rewards) < 2 or max(rewards) - min(rewards) < 1e-9:
        return None
    mean = statistics.mean(rewards)
    spread = statistics.stdev(rewards) + 1e-4 if scale else 1.0
    return [(reward - mean) / spread for reward in rewards]
