"""Phase `distil` of round 0: rationales from the teacher for the cold start."""

from loop.context import Context
from loop.distil import distil
from store.questions import find_questions
from store.rounds import Round


def cold_start(ctx: Context, state: Round) -> None:
    """Distil a rationale for every question of round 0 that has none, and say what was kept."""
    questions = find_questions(
        ctx.store, "id IN (SELECT question FROM round_question WHERE round = ?) ORDER BY id", state.number
    )
    distil(ctx, state.number, "cold_start", questions)
    kept, calls = ctx.store.rows(
        "SELECT coalesce(sum(status = 'kept'), 0), count(*) FROM teacher_call WHERE purpose = 'cold_start'"
    )[0]
    ctx.console.say(f"  the teacher wrote {calls} rationales, {kept} kept")
