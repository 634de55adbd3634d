"""The questions that the gate decides by, and the policy that a candidate is compared with."""

from typing import TYPE_CHECKING

from loop.config.schema import Config
from loop.evaluation.comparison import gate_split
from store import Store
from store.evaluations import best_accepted_policy
from store.questions import Question, find_questions
from store.rounds import GATE, Round

if TYPE_CHECKING:
    from loop.context import Context


def gate_questions(store: Store, config: Config) -> list[Question]:
    """The gate's questions: those of its split that the run began with, the same in every round.

    Unusable ones are left out. They are in the order of their hashes, because a sequential test takes the first ones;
    the questions of a unit are adjacent.
    """
    split = gate_split(store, config.evaluation.split)
    limit = config.gate.limit if split == GATE else config.evaluation.limit
    order = "coalesce(unit, hash), hash" if config.gate.rule == "sequential" else "id"
    return find_questions(
        store, f"split = ? AND batch = 0 AND unusable IS NULL ORDER BY {order} LIMIT ?", split, limit or -1
    )


def compared_policy(ctx: "Context", round_: Round, style: str) -> int:
    """The best policy accepted so far, by the gate's own questions in this style.

    Not the serving one, because many insignificant losses would add up.
    """
    split = gate_split(ctx.store, ctx.config.evaluation.split)
    best = best_accepted_policy(ctx.store, round_.number, split, style)
    return round_.serving_policy if best is None else best
