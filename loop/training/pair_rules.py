"""Pair rules: they choose preferred and rejected samples among the judged samples of one question.

A rule gets the samples of one question, each text once, and returns at most `max_pairs` pairs with weights. A weight is
the probability that a pair enters the update's epoch (see `pair_items` in `loop.training.training_items`), so a
weighted loss needs no special trainer.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

from rapidfuzz.distance import Levenshtein


class JudgedSample(NamedTuple):
    """A sample with its verdict; `copies` counts the samples with the same text."""

    id: int
    text: str
    token_ids: tuple[int, ...]
    outcome: str
    score: float
    extracted: str | None = None
    copies: int = 1
    votes: int = 0
    """The number of samples of the question with the same answer, itself included; 0 if it has none."""
    logprob: float | None = None
    """log pi_policy of the chain as the sampler wrote it, in nats."""
    verifier: float | None = None
    """log pi_policy - log pi_reference of the chain, in nats, if the rule needs it."""
    win_rate: float | None = None
    """Its share of a judge run's verdicts against the question's other samples, if the rule needs it."""


@dataclass(frozen=True)
class PairChoice:
    """A pair: ids of the preferred and the rejected sample, and the pair's weight in (0, 1]."""

    chosen: int
    rejected: int
    weight: float = 1.0


PairRule = Callable[[Sequence[JudgedSample], int, random.Random], list[PairChoice]]
"""(samples of one question, most pairs, generator) -> pairs."""


def _right_and_wrong(samples: Sequence[JudgedSample]) -> tuple[list[JudgedSample], list[JudgedSample]]:
    """Right and wrong samples. Only `wrong` is rejected; samples that could not be judged are left out."""
    return [s for s in samples if s.outcome == "correct"], [s for s in samples if s.outcome == "wrong"]


def random_pairs(samples: Sequence[JudgedSample], max_pairs: int, rng: random.Random) -> list[PairChoice]:
    """Random right against random wrong, each sample at most once (LLaVA-Reasoner, arXiv 2410.16198)."""
    right, wrong = _right_and_wrong(samples)
    count = min(max_pairs, len(right), len(wrong))
    return [PairChoice(c.id, r.id) for c, r in zip(rng.sample(right, count), rng.sample(wrong, count), strict=True)]


def all_pairs(samples: Sequence[JudgedSample], max_pairs: int, rng: random.Random) -> list[PairChoice]:
    """Random combinations of right and wrong, samples used again where needed (IRPO, arXiv 2404.19733)."""
    right, wrong = _right_and_wrong(samples)
    combinations = [PairChoice(c.id, r.id) for c, r in product(right, wrong)]
    return rng.sample(combinations, min(max_pairs, len(combinations)))


def best_worst(samples: Sequence[JudgedSample], max_pairs: int, rng: random.Random) -> list[PairChoice]:
    """Highest against lowest score, ties dropped (Online-DPO-R1); at most one pair."""
    judged = [s for s in samples if s.outcome in ("correct", "wrong")]
    rng.shuffle(judged)
    best = max(judged, key=lambda s: s.score, default=None)
    worst = min(judged, key=lambda s: s.score, default=None)
    if best is None or worst is None or best.score == worst.score:
        return []
    return [PairChoice(best.id, worst.id)]


def most_vs_least_voted(samples: Sequence[JudgedSample], max_pairs: int, rng: random.Random) -> list[PairChoice]:
    """Most-voted against least-voted answer, weight (V+ - V-) / k (ScPO, arXiv 2411.04109).

    Does not use accepted answers, so it works for questions without any.
    """
    answered = [s for s in samples if s.votes]
    if not answered:
        return []
    high, low = max(s.votes for s in answered), min(s.votes for s in answered)
    if high == low:
        return []
    first, last = [s for s in answered if s.votes == high], [s for s in answered if s.votes == low]
    weight = (high - low) / sum(s.copies for s in samples)
    count = min(max_pairs, len(first), len(last))
    chosen, rejected = rng.sample(first, count), rng.sample(last, count)
    return [PairChoice(c.id, r.id, weight) for c, r in zip(chosen, rejected, strict=True)]


def shortest_right(samples: Sequence[JudgedSample], max_pairs: int, rng: random.Random) -> list[PairChoice]:
    """If every sample is right, the shortest against the longest; else random pairs (ConciseR, arXiv 2505.21178)."""
    right, wrong = _right_and_wrong(samples)
    if wrong or len(right) < len(samples):
        return random_pairs(samples, max_pairs, rng)
    by_length = sorted(right, key=lambda s: (len(s.token_ids), s.id))
    count = min(max_pairs, len(by_length) // 2)
    pairs = zip(by_length[:count], reversed(by_length[-count:] if count else []), strict=True)
    return [PairChoice(c.id, r.id) for c, r in pairs if len(c.token_ids) < len(r.token_ids)]


def contrast(samples: Sequence[JudgedSample], max_pairs: int, rng: random.Random) -> list[PairChoice]:
    """The right and wrong chains that differ least in token ids, each at most once.

    DPO's loss cancels where two chains agree; the step that went wrong remains.
    """
    right, wrong = _right_and_wrong(samples)
    rng.shuffle(right)
    rng.shuffle(wrong)
    distances = sorted(
        (
            (Levenshtein.normalized_distance(c.token_ids, r.token_ids), n, m)
            for (n, c), (m, r) in product(enumerate(right), enumerate(wrong))
        ),
    )
    pairs: list[PairChoice] = []
    used_right: set[int] = set()
    used_wrong: set[int] = set()
    for _, n, m in distances:
        if len(pairs) == max_pairs:
            break
        if n not in used_right and m not in used_wrong:
            used_right.add(n)
            used_wrong.add(m)
            pairs.append(PairChoice(right[n].id, wrong[m].id))
    return pairs


def likeliest(samples: Sequence[JudgedSample], max_pairs: int, rng: random.Random) -> list[PairChoice]:
    """The right chains with the highest log-probability against the wrong ones with the highest.

    A right answer after an incoherent chain is mostly luck, and such chains are unlikely, so they are not chosen. A
    likely wrong chain is the mistake that the policy really makes.
    """
    right, wrong = (sort_by_likelihood(each) for each in _right_and_wrong(samples))
    return [PairChoice(c.id, r.id) for c, r in zip(right[:max_pairs], wrong[:max_pairs], strict=False)]


def sort_by_likelihood(samples: Sequence[JudgedSample]) -> list[JudgedSample]:
    """Likeliest first, by the policy's own log-probability of the whole chain; chains of others come last."""
    return sorted(samples, key=lambda s: (s.logprob is None, -(s.logprob or 0.0), s.id))


def margin(samples: Sequence[JudgedSample], max_pairs: int, rng: random.Random) -> list[PairChoice]:
    """The right chains with the highest verifier score against the wrong ones with the highest.

    The verifier scores a chain log pi_policy - log pi_reference (LLaVA-Reasoner, section 5); a
    wrong chain with a high score is the most useful mistake to unlearn.
    """
    right, wrong = _right_and_wrong(samples)
    rng.shuffle(right)
    rng.shuffle(wrong)

    def liked(sample: JudgedSample) -> float:
        if sample.verifier is None:
            raise ValueError(f"sample {sample.id} has no verifier score")
        return -sample.verifier

    pairs = zip(sorted(right, key=liked)[:max_pairs], sorted(wrong, key=liked)[:max_pairs], strict=False)
    return [PairChoice(c.id, r.id) for c, r in pairs]


def judged(samples: Sequence[JudgedSample], max_pairs: int, rng: random.Random) -> list[PairChoice]:
    """The chains that the judge prefers most often against those it prefers least; the gap is the pair's weight.

    Win rates over all pairs of a group are Pref-GRPO's (arXiv 2508.20751). Does not use accepted answers.
    """
    rated = [(s.win_rate, s.id) for s in samples if s.win_rate is not None]
    ranked = sorted(rated, key=lambda each: -each[0])  # ties keep the order of sampling, not of ids
    count = min(max_pairs, len(ranked) // 2)
    pairs = zip(ranked[:count], reversed(ranked[len(ranked) - count :]), strict=True)
    return [PairChoice(chosen, rejected, high - low) for (high, chosen), (low, rejected) in pairs if high > low]


PAIR_RULES: dict[str, PairRule] = {
    "random": random_pairs,
    "all": all_pairs,
    "best_worst": best_worst,
    "vote": most_vs_least_voted,
    "shortest_right": shortest_right,
    "contrast": contrast,
    "likeliest": likeliest,
    "margin": margin,
    "judged": judged,
}
