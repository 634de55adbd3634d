"""Phase `gate`: accept the candidate, or roll back."""

from itertools import takewhile

from loop.comparison import Comparison, compare, gate_split, gate_styles
from loop.config import Config
from loop.context import Context
from loop.errors import LoopError
from loop.swap import serve
from store import Store
from store.questions import Question, find_questions
from store.rounds import GATE, Round, decide

BEST_ACCEPTED = """
SELECT round.candidate_policy FROM round JOIN evaluation ON evaluation.policy = round.candidate_policy
WHERE round.decision = 'accepted' AND round.number < ? AND evaluation.split = ? AND style = ?
GROUP BY round.candidate_policy
ORDER BY avg(evaluation.outcome = 'correct') DESC, round.candidate_policy DESC LIMIT 1"""

DECISIONS = "SELECT decision FROM round WHERE number > 0 AND number < ? AND decision IS NOT NULL ORDER BY number DESC"


def gate_questions(store: Store, config: Config) -> list[Question]:
    """The questions of that split that the gate looks at: those the run began with, the same in every round."""
    split = gate_split(store, config.evaluation.split)
    limit = config.gate.limit if split == GATE else config.evaluation.limit
    return find_questions(store, "split = ? AND batch = 0 ORDER BY id LIMIT ?", split, limit or -1)


def compared_policy(ctx: Context, state: Round, style: str) -> int:
    """The best policy accepted so far, by the gate's own questions in this style.

    Not simply the serving one: many losses, each too small to be significant, would add up.
    """
    split = gate_split(ctx.store, ctx.config.evaluation.split)
    best: int | None = ctx.store.value(BEST_ACCEPTED, state.number, split, style)
    return state.serving if best is None else best


def gate(ctx: Context, state: Round) -> None:
    """Compare the candidate with the best accepted policy of each style on the same questions.

    By the recipe's rule in the style that is trained; in a style that is guarded it must not be worse. Begun again
    after a crash it keeps to what was decided.
    """
    if state.decision is not None:
        if state.decision == "rejected":
            serve(ctx, state.serving, state.number)
        return
    if state.candidate is None:
        decide(ctx.store, state.number, "no_update", "there was nothing to train on")
        return
    if state.number == 0:
        decide(ctx.store, 0, "accepted", "the cold start is where the rounds begin")
        return
    settings, (trained, *guarded) = ctx.config.gate, gate_styles(ctx.config)
    other, split = compared_policy(ctx, state, trained), gate_split(ctx.store, ctx.config.evaluation.split)
    comparison = compare(ctx.store, state.candidate, other, split, trained)
    if comparison.questions == 0:
        raise LoopError(f"the gate has no question of split {split!r} to compare on; begin a run whose source has some")
    accepted = accepts(settings.rule, settings.level, comparison)
    reason = f"against policy {other} on {comparison.questions} questions of split {split!r}: {_in_words(comparison)}"
    for style in guarded:
        best = compared_policy(ctx, state, style)
        comparison = compare(ctx.store, state.candidate, best, split, style)
        accepted = accepted and accepts("not_worse", settings.level, comparison)
        reason += f"; {style} against policy {best}: {_in_words(comparison)}"
    decide(ctx.store, state.number, "accepted" if accepted else "rejected", reason, other)
    ctx.console.say(f"  {reason}: {'accepted' if accepted else 'rejected'}")
    if not accepted:
        serve(ctx, state.serving, state.number)


def _in_words(comparison: Comparison) -> str:
    return f"gained {comparison.gained}, lost {comparison.lost}, p = {comparison.p_value:.3g}"


def accepts(rule: str, level: float, comparison: Comparison) -> bool:
    """`improve`: significantly better. `not_worse`: not significantly worse. `always`: whatever it is."""
    significant = comparison.p_value < level
    if rule == "improve":
        return significant and comparison.gained > comparison.lost
    if rule == "not_worse":
        return not (significant and comparison.lost > comparison.gained)
    return True


def rejections_before(store: Store, number: int) -> int:
    """How many rounds in a row were rejected just before this one; a round without an update says nothing."""
    return _since_accepted(store, number).count("rejected")


def rounds_without_gain(store: Store, number: int) -> int:
    """How many rounds just before this one ended without an accepted candidate."""
    return len(_since_accepted(store, number))


def _since_accepted(store: Store, number: int) -> list[str]:
    decisions = (row["decision"] for row in store.rows(DECISIONS, number))
    return list(takewhile(lambda decision: decision != "accepted", decisions))
