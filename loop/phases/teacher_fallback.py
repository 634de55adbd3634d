"""Phase `fallback`: questions that no sample solved go to the teacher, within a limit.

First it is asked to solve a question without the answer; if that is wrong, to correct one of the policy's failed
chains, with the accepted answer. A question that the teacher fails twice is `suspect`.
"""

from judges import find_judge
from loop.context import Context
from loop.teaching.collect_answers import answer_outcome, collect_answers, teacher_session
from loop.teaching.tasks import TeacherTask, correct_task, solve_task
from policies.teacher.client import Teacher
from policies.teacher.errors import TeacherOutage
from store.questions import questions_by_id
from store.rounds import Round
from store.teacher.fallback import (
    choose_hard_questions,
    count_outcomes,
    failed_chains,
    mark_suspect,
    mark_unanswered,
    settle,
)


def fallback(ctx: Context, round_: Round) -> None:
    """Choose the round's hard questions once, ask the teacher, and settle each of them.

    If the teacher is down, the phase ends with the answers so far; the questions can fall back again later.
    """
    settings = ctx.config.fallback
    if not settings.questions or ctx.teacher is None:
        return
    choose_hard_questions(
        ctx.store, round_.number, settings.earlier_rounds, settings.min_samples, limit=settings.questions
    )
    try:
        _teach(ctx, ctx.teacher, round_.number)
    except TeacherOutage as error:
        ctx.reporter.say(f"  {error}; the round goes on with what the teacher has answered")
    mark_unanswered(ctx.store, round_.number)
    counts = count_outcomes(ctx.store, round_.number)
    came_to = ", ".join(f"{count} {outcome}" for outcome, count in counts.items())
    ctx.reporter.say(f"  fell back to the teacher: {came_to or 'no question'}")


def _teach(ctx: Context, teacher: Teacher, number: int) -> None:
    config = ctx.config.teacher
    failed = failed_chains(ctx.store, number)
    questions = list(questions_by_id(ctx.store, failed).values())
    solves = {question.id: solve_task(config, question) for question in questions}
    unsolved = _ask_and_settle(ctx, teacher, number, "solve", solves, "solved")
    corrections = {
        question.id: correct_task(config, question, answer, failed[question.id])
        for question in questions
        if question.id in unsolved
        and (answer := find_judge(question.judge).reference_answer(question.answers, question.choices)) is not None
    }
    mark_suspect(ctx.store, number, _ask_and_settle(ctx, teacher, number, "correct", corrections, "corrected"))


def _ask_and_settle(
    ctx: Context, teacher: Teacher, number: int, purpose: str, tasks: dict[int, TeacherTask], outcome: str
) -> set[int]:
    """Ask, then settle the answered questions, even if the teacher went down meanwhile."""
    try:
        collect_answers(ctx, teacher, number, purpose, list(tasks.values()))
    except TeacherOutage:
        _settle(ctx, teacher, number, purpose, tasks, outcome)
        raise
    return _settle(ctx, teacher, number, purpose, tasks, outcome)


def _settle(
    ctx: Context, teacher: Teacher, number: int, purpose: str, tasks: dict[int, TeacherTask], outcome: str
) -> set[int]:
    """Record the kept chains; returns the questions that were answered wrongly.

    A cut-off or withheld answer says nothing about its question, which is not returned.
    """
    session = teacher_session(ctx, teacher, number, purpose)
    failed = set()
    with ctx.store.transaction():
        for question, task in tasks.items():
            answer = answer_outcome(ctx, session, task)
            if answer is not None and answer[1] == "correct":
                settle(ctx.store, number, question, outcome, sample=answer[0])
            elif answer is not None and answer[1] in ("wrong", "unparsable"):
                failed.add(question)
    return failed
