"""Distillation: the teacher writes a rationale for a question whose answer is known.

Used by the cold start and by the fallback, and by nothing else.
"""

from collections.abc import Sequence
from pathlib import Path

from loop.context import Context
from loop.verdicts import JudgedChain, as_columns, judge_chains
from policies.teacher import TeacherReply, TeacherRequest, request_hash
from store.database import now
from store.questions import Question, image_bytes
from store.samples import NewSample, NewVerdict, add_samples, add_verdicts

PROMPT = (Path(__file__).parent / "prompts" / "rationale.txt").read_text(encoding="utf-8")


def distil(ctx: Context, number: int, purpose: str, questions: Sequence[Question]) -> None:
    """Ask for every question that this request was never made for; commit each reply as it comes.

    A reply is one transaction: the call with its cost, the sample, and its verdict. So a call that
    was answered is never made again, and a kept rationale is never without its call.
    """
    if ctx.teacher is None:
        return
    settings = ctx.teacher.settings
    keys = {q.id: request_hash(settings, q.id, _prompt(q), q.images) for q in questions}
    missing = [q for q in questions if not ctx.store.row("SELECT 1 FROM teacher_call WHERE hash = ?", keys[q.id])]
    if not missing:
        return
    requests = (
        TeacherRequest(keys[q.id], q.id, _prompt(q), tuple(image_bytes(ctx.store, image) for image in q.images))
        for q in missing
    )
    by_id = {question.id: question for question in missing}
    with ctx.console.bar(f"asking the teacher ({purpose})", len(missing), "question") as bar:
        for request, reply in ctx.teacher.ask_all(requests, lambda: ctx.stopping):
            _keep(ctx, number, purpose, by_id[request.question], request, reply)
            bar.update()
    ctx.check_stop()


def _prompt(question: Question) -> str:
    return PROMPT.replace("{answer}", question.answers[0]).replace("{question}", question.text)


def _keep(
    ctx: Context,
    number: int,
    purpose: str,
    question: Question,
    request: TeacherRequest,
    reply: TeacherReply,
) -> None:
    assert ctx.teacher is not None
    settings = ctx.teacher.settings
    (judged,) = judge_chains(ctx, [JudgedChain(question, reply.text, "cot", reply.finish_reason)])
    call = request.key
    outcome = judged.verdict.outcome
    status = "kept" if outcome == "correct" else f"dropped: {outcome}"
    if reply.finish_reason.startswith("refused"):
        status = reply.finish_reason
    sample = NewSample(
        round=number,
        question=question.id,
        author="teacher",
        policy=None,
        style="cot",
        index=0,
        text=reply.text,
        token_ids=ctx.encoder.completion_ids(reply.text),
        finish_reason=reply.finish_reason,
        temperature=settings.temperature,
        teacher_call=call,
    )
    with ctx.store.transaction():
        ctx.store.db.conn.execute(
            "INSERT INTO teacher_call (hash, purpose, round, question, model, status, text, finish_reason,"
            " prompt_tokens, completion_tokens, created) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                call,
                purpose,
                number,
                question.id,
                settings.model,
                status,
                reply.text,
                reply.finish_reason,
                reply.prompt_tokens,
                reply.completion_tokens,
                now(),
            ),
        )
        add_samples(ctx.store, [sample])
        written = ctx.store.value("SELECT id FROM sample WHERE teacher_call = ?", call)
        add_verdicts(ctx.store, [NewVerdict(written, *as_columns(judged))])
