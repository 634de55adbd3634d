"""Which questions a round works on: one function an order, registered in `ORDERS`.

The questions asked least often come first (but for `difficult`, which asks again), among those the
ones added last; an order says how the rest is drawn, from the run's seed and what the store knows.
"""

import hashlib
import json
import math
from collections.abc import Callable
from typing import Any

from loop.context import Context
from loop.errors import InputError
from loop.questions.answer_shares import answer_shares, information
from store.questions import candidate_questions
from store.samples import pass_rates

RECENT = 3
"""Rounds that a pass rate is taken over: the policy was another one before."""

Weigh = Callable[[Context, int], Callable[[Any], float]]
"""(context, round) -> the weight of a question's row in the draw, above 0."""


def fresh(ctx: Context, number: int) -> Callable[[Any], float]:
    """Every question alike."""
    return lambda row: 1.0


def informative(ctx: Context, number: int) -> Callable[[Any], float]:
    """In proportion to what a right answer says: rare answers are seldom right by chance."""
    shares = answer_shares(ctx.store)
    return lambda row: information(json.loads(row["answers"]), shares)


def difficult(ctx: Context, number: int) -> Callable[[Any], float]:
    """In proportion to p (1 - p), p the pass rate of the last rounds; questions not asked in them as p = 1/2.

    Where a policy is right half of the time there is most to learn (arXiv 2504.03380).
    """
    rates = pass_rates(ctx.store, max(1, number - RECENT), number - 1)
    return lambda row: max(0.01, (p := rates.get(row["id"], 0.5)) * (1 - p))


ORDERS: dict[str, Weigh] = {"fresh": fresh, "informative": informative, "difficult": difficult}


def choose_questions(ctx: Context, number: int, wanted: int) -> list[int]:
    """Ids of the round's questions, by `sampling.order`; in round 0, where a teacher needs answers, by `fresh`.

    Round 0 asks only `cold_start.kinds`. Raises InputError for a kind that no question has.
    """
    weigh = ORDERS[ctx.config.sampling.order if number else "fresh"](ctx, number)
    again = ctx.config.sampling.order == "difficult" and number > 0
    draw = f"{ctx.config.run.seed}:{number}" if again else str(ctx.config.run.seed)

    def rank(row: Any) -> tuple[int, int, float, str]:
        digest = hashlib.sha256(f"{draw}:{row['unit'] or row['hash']}".encode()).digest()  # both orders come together
        # Weighted sampling without replacement: the smallest -log(u) / w first (Efraimidis and Spirakis 2006).
        uniform = (int.from_bytes(digest[:7]) + 1) / 2**56
        asked, batch = (0, 0) if again else (row["times"], -row["batch"])
        return asked, batch, -math.log(uniform) / weigh(row), digest.hex()

    kinds = () if number else ctx.config.cold_start.kinds
    rows = candidate_questions(ctx.store, unanswered=number > 0, kinds=kinds)
    if missing := sorted(set(kinds) - {row["kind"] for row in rows}):
        raise InputError(f"cold_start.kinds: no question of split 'train' with an answer is of kind {missing[0]!r}")
    return [row["id"] for row in sorted(rows, key=rank)[:wanted]]
