"""Distillation: what the teacher answers becomes judged samples; only those judged correct are of use."""

from collections.abc import Sequence

from judges import find_judge
from loop.context import Context
from loop.evaluation.judge_chains import Judged, JudgedChain, as_columns, judge_chains
from loop.teaching.ask_batch import ask_batch
from loop.teaching.ask_live import Asker, ask
from loop.teaching.tasks import Task
from loop.teaching.templates import chain_of
from policies.teacher.client import Teacher
from store.samples import NewSample, NewVerdict, add_samples, add_verdicts

GROUP = 64
"""Answers judged and committed together."""

SLOW_RULES = ("llm", "math", "python")
"""Rules that ask somebody, work in other processes, or run code of the user's."""

UNUSED_ANSWER = """
SELECT text, finish_reason FROM teacher_call WHERE hash = ?1 AND status = 'answered'
  AND NOT EXISTS (SELECT 1 FROM sample WHERE teacher_call = ?1 AND question = ?2)"""

OUTCOME = """
SELECT sample.id, verdict.outcome, sample.text FROM sample JOIN verdict ON verdict.sample = sample.id
WHERE sample.teacher_call = ? AND sample.question = ?"""


def distil(ctx: Context, teacher: Teacher, number: int, purpose: str, tasks: Sequence[Task]) -> None:
    """Ask for every task that was never answered, and judge what comes.

    The answer is committed first and by itself (`loop.teaching.ask_live`); its sample and verdict follow from the
    store in a second transaction. So no paid answer depends on what is done with it. Judges that take
    their time wait until the asking is over: nobody listens to the teacher while they think.
    """
    asker = make_asker(ctx, teacher, number, purpose)
    by_key: dict[str, list[Task]] = {}
    for task in tasks:
        by_key.setdefault(asker.key(task), []).append(task)
    _keep(ctx, asker, tasks)
    asking = ask_batch if ctx.config.teacher.mode == "batch" else ask
    kept, done, usd = 0, 0, 0.0
    with ctx.reporter.bar(f"asking the teacher ({purpose})", len(asker.missing(tasks)), "request") as bar:
        try:
            for calls in asking(asker, tasks):
                answered = [task for call in calls for task in by_key.get(call.hash, ())]
                kept += _keep(ctx, asker, [task for task in answered if _quick(task)])
                usd += sum(call.cost_usd or 0.0 for call in calls)
                done += len(calls)
                bar.note(kept=f"{kept / done:.0%}", cost=f"${usd:.2f}")
                bar.update(len(calls))
        finally:
            if not ctx.stopping:
                _keep(ctx, asker, [task for task in tasks if not _quick(task)])
    ctx.check_stop()


def make_asker(ctx: Context, teacher: Teacher, number: int, purpose: str) -> Asker:
    """The teacher for one purpose of one round."""
    return Asker(ctx.store, teacher, ctx.config.teacher, ctx.reporter, number, purpose, lambda: ctx.stopping)


def taught(ctx: Context, asker: Asker, task: Task) -> tuple[int, str] | None:
    """(sample, outcome) of what the teacher answered to a task; None if it gave no chain to judge."""
    row = ctx.store.row(OUTCOME, asker.key(task), task.question.id)
    return None if row is None or not row["text"].strip() else (row["id"], row["outcome"])


def _quick(task: Task) -> bool:
    return find_judge(task.question.judge).rule.name not in SLOW_RULES


def _keep(ctx: Context, asker: Asker, tasks: Sequence[Task]) -> int:
    """A judged sample for every answer that has none yet; returns how many are correct.

    Judged outside any transaction, a group at a time; each group is written in one.
    """
    kept = 0
    for start in range(0, len(tasks), GROUP):
        chains: list[tuple[Task, JudgedChain]] = []
        for task in tasks[start : start + GROUP]:
            answer = ctx.store.row(UNUSED_ANSWER, asker.key(task), task.question.id)
            if answer is not None:
                text = chain_of(task.template, answer["text"])
                chains.append((task, JudgedChain(task.question, text, "cot", answer["finish_reason"])))
        judged = judge_chains(ctx, [chain for _, chain in chains])
        if chains:
            with ctx.store.transaction():
                for (task, chain), each in zip(chains, judged, strict=True):
                    _add(ctx, asker, task, chain, each)
        kept += sum(each.verdict.outcome == "correct" for each in judged)
    return kept


def _add(ctx: Context, asker: Asker, task: Task, chain: JudgedChain, judged: Judged) -> None:
    sample = NewSample(
        round=asker.round,
        question=task.question.id,
        author="teacher",
        policy=None,
        style="cot",
        index=task.template.turn,
        text=chain.text,
        token_ids=ctx.encoder.completion_ids(chain.text),
        finish_reason=chain.finish_reason,
        temperature=asker.teacher.settings.temperature,
        teacher_call=asker.key(task),
    )
    add_samples(ctx.store, [sample])
    written = ctx.store.value("SELECT max(id) FROM sample")
    add_verdicts(ctx.store, [NewVerdict(written, *as_columns(judged))])
