"""Orders in which rounds draw questions: one function per order, registered in `ORDERS`.

The questions asked least often come first (but for `difficult`, which asks again), among those the
ones added last; an order says how the rest is drawn, from the run's seed and what the store knows.
"""

import json
import math
import sys
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from hashlib import sha256
from heapq import nsmallest

from loop.context import Context
from loop.errors import InputError
from loop.questions.answer_shares import answer_shares, information
from store.questions import Candidate, candidate_questions, times_asked, train_kinds
from store.samples import pass_rates

RECENT = 3
"""Rounds that a pass rate is taken over: the policy was another one before."""

UNIFORM_BYTES = 7
UNIFORMS = 2 ** (8 * UNIFORM_BYTES)
"""How many numbers the draw tells apart: 56 bits of a digest, as many as a float holds and a few more."""

KNOWN_ANSWERS = 1 << 16
"""Lists of answers whose information is kept."""

Weigh = Callable[[Context, int], Callable[[int, str], float]]
"""(context, round) -> the weight of a question in the draw, in (0, 1], by its id and the JSON list of its answers."""


def fresh(ctx: Context, number: int) -> Callable[[int, str], float]:
    """Every question with equal weight."""
    return lambda question, answers: 1.0


def informative(ctx: Context, number: int) -> Callable[[int, str], float]:
    """In proportion to the information of a right answer: rare answers are seldom right by chance."""
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
    return _drawn(wanted, candidates, draw.encode(), asked, weigh)


def _drawn(
    wanted: int,
    candidates: Iterable[Candidate],
    draw: bytes,
    asked: Mapping[int, int] | None,
    weigh: Callable[[int, str], float],
) -> list[int]:
    """The ids of the candidates that come first: by times asked, batch, and the draw.

    Without `asked`, as if none was asked nor added later. A million of them take under two seconds, and are never held
    at once: most that cannot be among the first are left after their hash.
    """
    if not wanted:
        return []
    kept: list[tuple[int, int, float, bytes, int]] = []
    last_asked, last_batch, last_drawn = sys.maxsize, 0, math.inf
    least: dict[float, bytes] = {}
    least_of_all = _least_digest(last_drawn, 1.0)
    times = asked.get if asked is not None else None
    for question, key, batch, answers in candidates:
        place = (0, 0) if times is None else (times(question, 0), -batch)
        if place > (last_asked, last_batch):
            continue
        digest = sha256(draw + key).digest()  # both orders of a preference have one key: they come together
        is_tied = place == (last_asked, last_batch)
        if is_tied and digest < least_of_all:
            continue  # whatever its weight is
        weight = weigh(question, answers)
        if is_tied:
            if weight not in least:
                least[weight] = _least_digest(last_drawn, weight)
            if digest < least[weight]:
                continue
        # Weighted sampling without replacement: the smallest -log(u) / w first (Efraimidis and Spirakis 2006).
        uniform = (int.from_bytes(digest[:UNIFORM_BYTES]) + 1) / UNIFORMS
        kept.append((*place, -math.log(uniform) / weight, digest, question))
        if len(kept) >= 2 * wanted:
            kept = nsmallest(wanted, kept)
            last_asked, last_batch, last_drawn = kept[-1][:3]
            least_of_all = _least_digest(last_drawn, 1.0)
            least.clear()
    return [ranked[-1] for ranked in nsmallest(wanted, kept)]


def _least_digest(drawn: float, weight: float) -> bytes:
    """A question of this weight whose digest is below comes later than one that drew `drawn`.

    It is a little lower than that, by more than the rounding of exp and log.
    """
    return int(math.exp(-drawn * weight) * (1 - 1e-9) * UNIFORMS).to_bytes(UNIFORM_BYTES)
