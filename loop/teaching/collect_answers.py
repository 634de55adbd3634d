"""Turns the teacher's answers into judged samples; training uses only those judged correct."""

from collections.abc import Sequence

from judges import find_judge
from loop.context import Context
from loop.evaluation.judge_chains import ChainToJudge, JudgeResult, as_columns, judge_chains
from loop.teaching.ask_batch import ask_batch
from loop.teaching.ask_live import ask_live
from loop.teaching.tasks import TeacherTask
from loop.teaching.teacher_session import TeacherSession
from loop.teaching.templates import chain_of
from policies.teacher.client import Teacher
from store.samples import NewSample, NewVerdict, add_samples, add_verdicts

COMMIT_ANSWERS = 64
"""Answers judged and committed together."""

SLOW_RULES = ("llm", "math", "python")
"""Rules that ask another model, start processes, or run the user's code."""

UNUSED_ANSWER = """
SELECT text, finish_reason FROM teacher_call WHERE hash = ?1 AND status = 'answered'
  AND NOT EXISTS (SELECT 1 FROM sample WHERE teacher_call = ?1 AND question = ?2)"""

OUTCOME = """
SELECT sample.id, verdict.outcome, sample.text FROM sample JOIN verdict ON verdict.sample = sample.id
WHERE sample.teacher_call = ? AND sample.question = ?"""


def collect_answers(
    ctx: Context, teacher: Teacher, round_number: int, purpose: str, tasks: Sequence[TeacherTask]
) -> None:
    """Ask every task that has no answer, and add a judged sample for each answer.

    The answer is committed first and alone; its sample and verdict follow in a second transaction, read from
    the store. So an error in judging loses no paid answer. Slow rules judge after all answers have arrived,
    because judging blocks the event loop that reads replies.
    Raises TeacherError, TeacherOutage, and Stopped if the user wants to stop.
    """
    session = teacher_session(ctx, teacher, round_number, purpose)
    by_key: dict[str, list[TeacherTask]] = {}
    for task in tasks:
        by_key.setdefault(session.request_key(task), []).append(task)
    _judge_answers(ctx, session, tasks)
    ask = ask_batch if ctx.config.teacher.mode == "batch" else ask_live
    correct, done, usd = 0, 0, 0.0
    with ctx.reporter.bar(f"asking the teacher ({purpose})", len(session.unanswered(tasks)), "request") as bar:
        try:
            for calls in ask(session, tasks):
                answered = [task for call in calls for task in by_key.get(call.hash, ())]
                correct += _judge_answers(ctx, session, [task for task in answered if not _has_slow_rule(task)])
                usd += sum(call.cost_usd or 0.0 for call in calls)
                done += len(calls)
                bar.note(kept=f"{correct / done:.0%}", cost=f"${usd:.2f}")
                bar.update(len(calls))
        finally:
            if not ctx.stopping:
                _judge_answers(ctx, session, [task for task in tasks if _has_slow_rule(task)])
    ctx.check_stop()


def teacher_session(ctx: Context, teacher: Teacher, round_number: int, purpose: str) -> TeacherSession:
    """The teacher for one purpose of one round."""
    return TeacherSession(
        ctx.store, teacher, ctx.config.teacher, ctx.reporter, round_number, purpose, lambda: ctx.stopping
    )


def answer_outcome(ctx: Context, session: TeacherSession, task: TeacherTask) -> tuple[int, str] | None:
    """(sample, outcome) of the task's answer; None if there is no answer, or no chain in it."""
    row = ctx.store.row(OUTCOME, session.request_key(task), task.question.id)
    return None if row is None or not row["text"].strip() else (row["id"], row["outcome"])


def _has_slow_rule(task: TeacherTask) -> bool:
    return find_judge(task.question.judge).rule.name in SLOW_RULES


def _judge_answers(ctx: Context, session: TeacherSession, tasks: Sequence[TeacherTask]) -> int:
    """Add a judged sample for each answer that has none; returns the number of correct ones.

    Judging happens outside any transaction; each group of samples is written in one.
    """
    correct = 0
    for start in range(0, len(tasks), COMMIT_ANSWERS):
        chains: list[tuple[TeacherTask, ChainToJudge]] = []
        for task in tasks[start : start + COMMIT_ANSWERS]:
            answer = ctx.store.row(UNUSED_ANSWER, session.request_key(task), task.question.id)
            if answer is not None:
                text = chain_of(task.template, answer["text"])
                chains.append((task, ChainToJudge(task.question, text, "cot", answer["finish_reason"])))
        results = judge_chains(ctx, [chain for _, chain in chains])
        if chains:
            with ctx.store.transaction():
                for (task, chain), result in zip(chains, results, strict=True):
                    _add_sample(ctx, session, task, chain, result)
        correct += sum(result.verdict.outcome == "correct" for result in results)
    return correct


def _add_sample(
    ctx: Context, session: TeacherSession, task: TeacherTask, chain: ChainToJudge, result: JudgeResult
) -> None:
    sample = NewSample(
        round=session.round,
        question=task.question.id,
        author="teacher",
        policy=None,
        style="cot",
        index=task.template.turn,
        text=chain.text,
        token_ids=ctx.encoder.completion_ids(chain.text),
        finish_reason=chain.finish_reason,
        temperature=session.teacher.settings.temperature,
        teacher_call=session.request_key(task),
    )
    add_samples(ctx.store, [sample])
    written = ctx.store.value("SELECT max(id) FROM sample")
    add_verdicts(ctx.store, [NewVerdict(written, *as_columns(result))])
