"""Which questions a round works on: one function an order, registered in `ORDERS`.

The questions asked least often come first (but for `difficult`, which asks again), among those the
ones added last; an order says how the rest is drawn, from the run's seed and what the store knows.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from hashlib import sha256
from heapq import nsmallest
from math import log

from loop.context import Context
from loop.errors import InputError
from loop.questions.answer_shares import answer_shares, information
from store.questions import Candidate, candidate_questions, times_asked, train_kinds
from store.samples import pass_rates

RECENT = 3
"""Rounds that a pass rate is taken over: the policy was another one before."""

KNOWN_ANSWERS = 1 << 16
"""Lists of answers whose information is kept."""

Weigh = Callable[[Context, int], Callable[[int, str], float]]
"""(context, round) -> the weight of a question in the draw, above 0, by its id and the JSON list of its answers."""


def fresh(ctx: Context, number: int) -> Callable[[int, str], float]:
    """Every question alike."""
    return lambda question, answers: 1.0


def informative(ctx: Context, number: int) -> Callable[[int, str], float]:
    """In proportion to what a right answer says: rare answers are seldom right by chance."""
    shares = answer_shares(ctx.store)
    weigh = lru_cache(KNOWN_ANSWERS)(lambda answers: information(json.loads(answers), shares))
    return lambda question, answers: weigh(answers)


def difficult(ctx: Context, number: int) -> Callable[[int, str], float]:
    """In proportion to p (1 - p), p the pass rate of the last rounds; questions not asked in them as p = 1/2.

    Where a policy is right half of the time there is most to learn (arXiv 2504.03380).
    """
    rates = pass_rates(ctx.store, max(1, number - RECENT), number - 1)
    return lambda question, answers: max(0.01, (p := rates.get(question, 0.5)) * (1 - p))


ORDERS: dict[str, Weigh] = {"fresh": fresh, "informative": informative, "difficult": difficult}


def choose_questions(ctx: Context, number: int, wanted: int) -> list[int]:
    """Ids of the round's questions, by `sampling.order`; in round 0, where a teacher needs answers, by `fresh`.

    Round 0 asks only `cold_start.kinds`. Raises InputError for a kind that no question has.
    """
    weigh = ORDERS[ctx.config.sampling.order if number else "fresh"](ctx, number)
    again = ctx.config.sampling.order == "difficult" and number > 0
    draw = f"{ctx.config.run.seed}:{number}:" if again else f"{ctx.config.run.seed}:"
    kinds = () if number else ctx.config.cold_start.kinds
    if missing := sorted(set(kinds) - train_kinds(ctx.store)):
        raise InputError(f"cold_start.kinds: no question of split 'train' with an answer is of kind {missing[0]!r}")
    candidates = candidate_questions(ctx.store, unanswered=number > 0, kinds=kinds)
    asked = None if again else times_asked(ctx.store)
    return [ranked[-1] for ranked in nsmallest(wanted, _ranked(candidates, draw.encode(), asked, weigh))]


def _ranked(
    candidates: Iterable[Candidate], draw: bytes, asked: Mapping[int, int] | None, weigh: Callable[[int, str], float]
) -> Iterator[tuple[int, int, float, bytes, int]]:
    """Each candidate with what it is drawn by, its id last; without `asked`, as if none was asked nor added later.

    A million of them take a few seconds, and are never held at once.
    """
    for question, key, batch, answers in candidates:
        digest = sha256(draw + key).digest()  # both orders of a preference have one key: they come together
        # Weighted sampling without replacement: the smallest -log(u) / w first (Efraimidis and Spirakis 2006).
        uniform = (int.from_bytes(digest[:7]) + 1) / 2**56
        drawn = -log(uniform) / weigh(question, answers)
        if asked is None:
            yield 0, 0, drawn, digest, question
        else:
            yield asked.get(question, 0), -batch, drawn, digest, question
