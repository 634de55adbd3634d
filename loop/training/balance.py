"""Counter-pairs: a round's pairs say as much for an answer as against it.

Where a policy gives one of a few short answers too often, most of its wrong chains end in that answer. Pairs from them
prefer the other one whatever the question, and an update turns the habit round instead of removing it. So for every
pair that is left over in one direction there is one in the other: from a question that the policy solves, its right
chain against the same chain with the other answer at its end. The two differ in the answer alone: what is learned is
when to give which.
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
"""A question and the right sample of it that the policy finds likeliest."""


@dataclass(frozen=True)
class CounterPair:
    """A solved question's right chain, and the same chain with `answer` at its end."""

    question: int
    chosen: JudgedSample
    answer: str
    swapped: tuple[int, ...]


def directions(pairs: Iterable[NewPair], samples: Iterable[JudgedSample]) -> Counter[Direction]:
    """How much the pairs of one question weigh by direction; pairs with equal answers, or without, have none."""
    answers = {sample.id: fold_answer(sample) for sample in samples}
    weights: Counter[Direction] = Counter()
    for pair in pairs:
        chosen, rejected = answers[pair.chosen], answers[pair.rejected]
        if chosen and rejected and chosen != rejected:
            weights[chosen, rejected] += pair.weight  # type: ignore[assignment]
    return weights


def missing(weights: Counter[Direction]) -> dict[Direction, int]:
    """How many pairs each direction lacks. A single pair is not answered: open answers seldom occur twice."""
    lacking = {(b, a): round(weight - weights[b, a]) for (a, b), weight in weights.items()}
    return {direction: count for direction, count in sorted(lacking.items()) if count > 1}


def likeliest_right(samples: Sequence[JudgedSample]) -> JudgedSample | None:
    """The right sample that the policy finds likeliest, of those with an answer."""
    right = sort_by_likelihood([s for s in samples if s.outcome == "correct" and s.extracted])
    return right[0] if right else None


def counter_pairs(
    encoder: Encoder,
    weights: Counter[Direction],
    solved: Sequence[Solved],
    spellings: Mapping[str, str],
    rng: random.Random,
) -> list[CounterPair]:
    """The pairs that balance a round's, as far as there are solved questions; each question gives one at most.

    `solved` are questions that give no pair of their own. `spellings` has an answer as right samples write it, by the
    folded one: a swapped answer must not be told from others by its case.
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
    """The chain with another answer at its end; None where no token begins the answer, or more follows it."""
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
    """The sample's answer, case folded; "" where it has none."""
    return (sample.extracted or "").casefold()
