"""Phase `distil` of round 0: the teacher writes the rationales of the cold start."""

from loop.context import Context
from loop.teaching.collect_answers import collect_answers
from loop.teaching.tasks import rationale_tasks
from store.questions import round_questions
from store.rounds import Round
from store.teacher.calls import count_reasons


def distil(ctx: Context, round_: Round) -> None:
    """Ask for a rationale for every question of round 0 that has none, and report how many are kept.

    If the endpoint is down the run stops, because fewer rationales would change the cold start. Every answer is
    kept, and the next session asks for the rest. Raises TeacherOutage, TeacherError.
    """
    if ctx.teacher is None:
        return
    questions = round_questions(ctx.store, round_.number)
    collect_answers(ctx, ctx.teacher, round_.number, "cold_start", rationale_tasks(ctx.config.teacher, questions))
    counts = count_reasons(ctx.store, round_.number)
    kept = counts.pop("kept", 0)
    dropped = ", ".join(f"{count} {reason}" for reason, count in sorted(counts.items()))
    ctx.reporter.say(f"  the teacher wrote {kept} rationales to keep{dropped and f'; dropped: {dropped}'}")
