"""Phase `fallback`: questions that no sample solved go to the teacher, within a limit.

First an honest solve without the answer; if that is wrong, a correction with the accepted answer
and one of the policy's own failed chains. A question that the teacher fails twice is `suspect`.
"""

from judges import find_judge
from loop.context import Context
from loop.teaching.collect_answers import distil, make_asker, taught
from loop.teaching.tasks import Task, correct_task, solve_task
from policies.teacher.client import Teacher
from policies.teacher.request_pool import TeacherOutage
from store.questions import find_questions
from store.rounds import Round

CHOOSE = """
INSERT INTO fallback (round, question, failed)
SELECT :round, hard.question,
    (SELECT sample.id FROM sample JOIN verdict ON verdict.sample = sample.id
     WHERE sample.round = :round AND sample.question = hard.question AND author = 'policy'
     ORDER BY verdict.outcome <> 'wrong', "index" LIMIT 1) AS failed
FROM (SELECT sample.question AS question, count(*) AS judged, sum(verdict.outcome = 'correct') AS correct
      FROM sample JOIN verdict ON verdict.sample = sample.id AND verdict.outcome <> 'judge_error'
      JOIN round_question ON round_question.round = :round AND round_question.question = sample.question
      WHERE sample.author = 'policy' AND sample.round BETWEEN :round - :earlier AND :round
      GROUP BY sample.question) AS hard
JOIN question ON question.id = hard.question
WHERE hard.correct = 0 AND hard.judged >= :least AND failed IS NOT NULL
  AND question.suspect IS NULL AND question.answers <> '[]'
ORDER BY EXISTS (SELECT 1 FROM fallback AS before WHERE before.question = hard.question), question.hash LIMIT :limit"""
"""Pass rate 0 over at least so many judged samples of this and the earlier rounds; new ones first."""

KEPT = """
SELECT sample.id, sample.question, sample.text, sample.token_ids, fallback.failed
FROM fallback JOIN sample ON sample.id = fallback.sample WHERE fallback.round = ? ORDER BY sample.question"""
"""The kept teacher chains of a round, each with the id of the policy's failed chain."""


def fallback(ctx: Context, state: Round) -> None:
    """Choose the round's hard questions once, ask the teacher, and settle each of them.

    A teacher that is down ends the phase with what it has; the questions can fall back again later.
    """
    limit = ctx.config.fallback.questions
    if not limit or ctx.teacher is None:
        return
    _choose(ctx, state.number, limit)
    try:
        _teach(ctx, ctx.teacher, state.number)
    except TeacherOutage as error:
        ctx.reporter.say(f"  {error}; the round goes on with what the teacher has answered")
    with ctx.store.transaction():
        ctx.store.connection.execute(
            "UPDATE fallback SET outcome = 'unanswered' WHERE round = ? AND outcome IS NULL", (state.number,)
        )
    counts = ctx.store.rows(
        "SELECT outcome, count(*) FROM fallback WHERE round = ? GROUP BY outcome ORDER BY outcome", state.number
    )
    came_to = ", ".join(f"{count} {outcome}" for outcome, count in counts)
    ctx.reporter.say(f"  fell back to the teacher: {came_to or 'no question'}")


def _choose(ctx: Context, number: int, limit: int) -> None:
    """Fix which questions fall back. Chosen once a round, so a restart asks for the same ones."""
    settings = ctx.config.fallback
    with ctx.store.transaction():
        if not ctx.store.row("SELECT 1 FROM fallback WHERE round = ?", number):
            ctx.store.connection.execute(
                CHOOSE,
                {
                    "round": number,
                    "earlier": settings.earlier_rounds,
                    "least": settings.min_samples,
                    "limit": limit,
                },
            )


def _teach(ctx: Context, teacher: Teacher, number: int) -> None:
    config = ctx.config.teacher
    rows = ctx.store.rows(
        "SELECT fallback.question, sample.text FROM fallback JOIN sample ON sample.id = fallback.failed"
        " WHERE fallback.round = ? AND fallback.outcome IS NULL ORDER BY fallback.question",
        number,
    )
    failed = {row["question"]: row["text"] for row in rows}
    asked = ",".join(map(str, failed))
    questions = find_questions(ctx.store, f"id IN ({asked}) ORDER BY id")
    solves = {question.id: solve_task(config, question) for question in questions}
    unsolved = _ask_and_settle(ctx, teacher, number, "solve", solves, "solved")
    corrections = {
        question.id: correct_task(config, question, answer, failed[question.id])
        for question in questions
        if question.id in unsolved
        and (answer := find_judge(question.judge).told(question.answers, question.choices)) is not None
    }
    _mark_suspect(ctx, number, _ask_and_settle(ctx, teacher, number, "correct", corrections, "corrected"))


def _ask_and_settle(
    ctx: Context, teacher: Teacher, number: int, purpose: str, tasks: dict[int, Task], outcome: str
) -> set[int]:
    """Ask, then settle what was answered; with a teacher that went down on the way, that much at least."""
    try:
        distil(ctx, teacher, number, purpose, list(tasks.values()))
    except TeacherOutage:
        _settle(ctx, teacher, number, purpose, tasks, outcome)
        raise
    return _settle(ctx, teacher, number, purpose, tasks, outcome)


def _settle(
    ctx: Context, teacher: Teacher, number: int, purpose: str, tasks: dict[int, Task], outcome: str
) -> set[int]:
    """Record the kept chains; returns the questions that were answered, but not correctly.

    An answer that was cut off or withheld says nothing about the question: it is not among them.
    """
    asker = make_asker(ctx, teacher, number, purpose)
    failed = set()
    with ctx.store.transaction():
        for question, task in tasks.items():
            answer = taught(ctx, asker, task)
            if answer is not None and answer[1] == "correct":
                ctx.store.connection.execute(
                    "UPDATE fallback SET outcome = ?, sample = ? WHERE round = ? AND question = ?",
                    (outcome, answer[0], number, question),
                )
            elif answer is not None and answer[1] in ("wrong", "unparsable"):
                failed.add(question)
    return failed


def _mark_suspect(ctx: Context, number: int, questions: set[int]) -> None:
    """The teacher failed twice: probably the annotation is wrong. Later rounds leave the question out."""
    with ctx.store.transaction():
        for question in questions:
            ctx.store.connection.execute("UPDATE question SET suspect = ? WHERE id = ?", (number, question))
            ctx.store.connection.execute(
                "UPDATE fallback SET outcome = 'suspect' WHERE round = ? AND question = ?", (number, question)
            )
