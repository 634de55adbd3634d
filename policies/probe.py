"""The probe: proves by the log-probabilities of a few chains that an engine computes with the given weights.

Precision decides what a probe can tell. In float32 two libraries agree within 1e-5 nats per token; in bfloat16 within
0.02 to 0.1, which is more than a gentle update moves. So besides a tolerance there are two comparisons with the weights
that the engine held before. Its scores must lie with the new policy's wherever the learner's scores of both differ by
more than learner and engine do. And they must have moved if the learner's have.

For an engine of your own: score the chains with your learner under both policies, then call `probe_engine`.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from policies import PolicyError
from policies.encoding import Prompt
from policies.verifier import ScoredChain

MEASURABLE = 3.0
"""Two policies differ measurably where their scores lie so many times farther apart than learner and engine do."""

UNMOVED = 0.1
"""An engine whose scores moved by less than this share of what the learner's moved by computes with the old weights."""

SAME_SHARE = 1e-4
"""Up to this share of changed weights an engine's scores may stay as they are, for all that they were loaded."""

LEARNER_NOISE = 1e-6
"""What the learner's own scores vary by, in nats per token."""


class ProbeFailed(PolicyError):
    """The engine does not compute with the weights it was given, or nobody can say so."""


class Scores(Protocol):
    """All that the probe asks of an engine."""

    def score(self, prompts: Sequence[Prompt], completions: Sequence[Sequence[int]]) -> list[float]:
        """Summed log-probability in nats of each completion after its prompt."""


@dataclass(frozen=True)
class Before:
    """Scores of the same chains under the weights that the engine held before: summed log-probabilities in nats.

    `changed` says which share of the weights differ between old and new, in the precision that the engine computes in.
    It reads both, so it is asked only where the engine's scores did not move.
    """

    learner: Sequence[float]
    engine: Sequence[float]
    changed: Callable[[], float]


@dataclass(frozen=True)
class Proof:
    """The probe's result in nats per token: the largest difference between learner and engine, and the learner's
    largest difference between old and new policy (None if the engine held no known policy).

    `told`: whether the probe can tell the two policies apart.
    """

    difference: float
    moved: float | None = None
    told: bool = False

    def explained(self) -> str:
        """The proof in words."""
        words = f"probe differs by {self.difference:.1e} nats per token"
        if self.moved is None:
            return words
        if self.told:
            return f"{words}, and the policy before it lies {self.moved:.1e} away"
        return f"{words}; it cannot tell it from the policy before it, which lies {self.moved:.1e} away"


def prove(
    learner: Sequence[float],
    engine: Sequence[float],
    items: Sequence[ScoredChain],
    tolerance: float,
    before: Before | None = None,
) -> Proof:
    """Prove that an engine serves a policy, by the summed log-probabilities that learner and engine gave `items`.

    `tolerance` is the largest difference allowed, in nats per token. Raises ProbeFailed, saying what is wrong.
    """
    difference = largest_difference(learner, engine, items)
    if not difference <= tolerance:
        raise ProbeFailed(f"sampler and learner differ by {difference:.4f} nats per token on the probe")
    if before is None:
        return Proof(difference)
    lengths = [len(item.completion) for item in items]
    moved = _distance(before.learner, learner, lengths)
    told = True
    if _has_stayed(before, engine, moved, lengths):
        if before.changed() > SAME_SHARE:
            raise ProbeFailed("the sampler's scores of the probe are those of the weights before: it kept them")
        told = False
    from_new, from_old = _distance(learner, engine, lengths), _distance(before.learner, engine, lengths)
    measurable = moved > max(LEARNER_NOISE, MEASURABLE * min(from_new, from_old))
    if measurable and told and from_old < from_new:
        raise ProbeFailed(
            f"the sampler lies {from_old:.1e} nats per token from the policy before and {from_new:.1e} from its own:"
            " it kept the old weights"
        )
    return Proof(difference, largest_difference(before.learner, learner, items), told and measurable)


def probe_engine(
    engine: Scores,
    learner: Sequence[float],
    items: Sequence[ScoredChain],
    tolerance: float,
    before: Before | None = None,
) -> tuple[Proof, list[float]]:
    """`prove`, with the engine asked for its scores, which are returned too: the next proof's `Before` needs them."""
    scores = engine.score([item.prompt for item in items], [item.completion for item in items])
    return prove(learner, scores, items, tolerance, before), scores


def largest_difference(learner: Sequence[float], sampler: Sequence[float], items: Sequence[ScoredChain]) -> float:
    """Largest difference in log-probability per token, in nats; nan if any is no number."""
    if not len(learner) == len(sampler) == len(items):
        raise PolicyError(f"the probe has {len(items)} items, the store {len(learner)}: the probe changed")
    pairs = zip(learner, sampler, items, strict=True)
    differences = [abs(a - b) / len(item.completion) for a, b, item in pairs]
    return math.nan if any(map(math.isnan, differences)) else max(differences)


def _has_stayed(before: Before, engine: Sequence[float], moved: float, lengths: Sequence[int]) -> bool:
    """Whether the engine's scores are as they were, to the last bit or beside what the learner's moved by."""
    if list(engine) == list(before.engine):
        return True
    return moved > LEARNER_NOISE / UNMOVED and _distance(before.engine, engine, lengths) < UNMOVED * moved


def _distance(one: Sequence[float], other: Sequence[float], lengths: Sequence[int]) -> float:
    """Root of the mean squared difference, in nats per token."""
    squares = [((a - b) / length) ** 2 for a, b, length in zip(one, other, lengths, strict=True)]
    return math.sqrt(math.fsum(squares) / len(squares))
