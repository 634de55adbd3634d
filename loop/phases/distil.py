"""Phase `distil` of round 0: rationales from the teacher for the cold start."""

from loop.context import Context
from loop.teaching.collect_answers import distil
from loop.teaching.tasks import rationale_tasks
from store.questions import find_questions
from store.rounds import Round
from store.teacher_calls import count_reasons


def cold_start(ctx: Context, state: Round) -> None:
    """Distil a rationale for every question of round 0 that has none, and say what was kept.

    An endpoint that is down stops the run here: without its rationales the cold start is another
    one. What was answered is kept, and the next session asks for the rest.
    """
    if ctx.teacher is None:
        return
    questions = find_questions(
        ctx.store, "id IN (SELECT question FROM round_question WHERE round = ?) ORDER BY id", state.number
    )
    distil(ctx, ctx.teacher, state.number, "cold_start", rationale_tasks(ctx.config.teacher, questions))
    counts = count_reasons(ctx.store, state.number)
    kept = counts.pop("kept", 0)
    dropped = ", ".join(f"{count} {reason}" for reason, count in sorted(counts.items()))
    ctx.reporter.say(f"  the teacher wrote {kept} rationales to keep{dropped and f'; dropped: {dropped}'}")
