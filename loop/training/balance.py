"""Counter-pairs: they balance a round's pairs, so that each answer is preferred as often as rejected.

If a policy gives one of a few short answers too often, most of its wrong chains end in that answer. Their pairs prefer
the other answer for any question, so an update reverses the habit instead of removing it. Therefore every surplus pair
in one direction gets a counter-pair in the other: on a question that the policy solves, its right chain is preferred to
the same chain with the other answer at its end. The two differ in the answer only, so the policy learns when to give
which.
"""

import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from loop.training.pair_rules import JudgedSample, sort_by_likelihood
from policies.encoding import Encoder
from store.pairs import NewPair

Direction = tuple[str, str]
"""The answers of a pair, case folded: of the chosen sample, then of the rejected one."""


Solved = tuple[int, JudgedSample]
"""A question and its right sample with the highest log-probability."""


@dataclass(frozen=True)
class CounterPair:
    """A solved question's right chain, and the same chain with `answer` at its end."""

    question: int
    chosen: JudgedSample
    answer: str
    swapped: tuple[int, ...]


def directions(pairs: Iterable[NewPair], samples: Iterable[JudgedSample]) -> Counter[Direction]:
    """The weight of one question's pairs by direction; pairs with equal or missing answers have no direction."""
    answers = {sample.id: fold_answer(sample) for sample in samples}
    weights: Counter[Direction] = Counter()
    for pair in pairs:
        chosen, rejected = answers[pair.chosen], answers[pair.rejected]
        if chosen and rejected and chosen != rejected:
            weights[chosen, rejected] += pair.weight  # type: ignore[assignment]
    return weights


def missing(weights: Counter[Direction]) -> dict[Direction, int]:
    """The number of pairs that each direction lacks. A single pair is not balanced: open answers seldom occur twice."""
    lacking = {(b, a): round(weight - weights[b, a]) for (a, b), weight in weights.items()}
    return {direction: count for direction, count in sorted(lacking.items()) if count > 1}


def likeliest_right(samples: Sequence[JudgedSample]) -> JudgedSample | None:
    """The right sample with an answer that has the highest log-probability."""
    right = sort_by_likelihood([s for s in samples if s.outcome == "correct" and s.extracted])
    return right[0] if right else None


def counter_pairs(
    encoder: Encoder,
    weights: Counter[Direction],
    solved: Sequence[Solved],
    spellings: Mapping[str, str],
    rng: random.Random,
) -> list[CounterPair]:
    """The pairs that balance a round's, as far as solved questions suffice; each question gives at most one.

    `solved` are questions without a pair. `spellings` maps a folded answer to its spelling in right samples: a swapped
    answer must not be recognisable by its case.
    """
    waiting: dict[str, list[Solved]] = {}
    for question, right in solved:
        waiting.setdefault(fold_answer(right), []).append((question, right))
    for chains in waiting.values():
        rng.shuffle(chains)
    made = list[CounterPair]()
    for (kept, other), count in missing(weights).items():
        chains, found = waiting.get(kept, []), 0
        while chains and found < count and other in spellings:
            question, chosen = chains.pop()
            swapped = swap_answer(encoder, chosen.token_ids, kept, spellings[other])
            if swapped is not None:
                made.append(CounterPair(question, chosen, other, swapped))
                found += 1
    return made


def swap_answer(encoder: Encoder, token_ids: Sequence[int], old: str, new: str) -> tuple[int, ...] | None:
    """The chain with another answer at its end; None if no token begins the answer, or if more text follows it."""
    text = encoder.text(token_ids)
    for end in range(len(token_ids) - 1, 0, -1):
        head = encoder.text(token_ids[:end])
        if not text.startswith(head) or len(text) - len(head) > len(old) + 1:
            return None
        if text[len(head) :].strip().casefold() == old:
            space = " " if text[len(head) :].startswith(" ") else ""
            return (*token_ids[:end], *encoder.completion_ids(space + new))
    return None


def fold_answer(sample: JudgedSample) -> str:
    """The sample's answer, case folded; "" if it has none."""
    return (sample.extracted or "").casefold()
