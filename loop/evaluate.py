"""Phase `evaluate`: a policy's greedy answers to the held-out questions, in both prompt styles."""

from collections.abc import Iterator

from judges import JUDGES, give_verdict
from loop.context import Context
from loop.sample import COMMIT_CHAINS
from loop.swap import serve
from policies.sampler import Chain, Request
from store.database import now_s
from store.questions import Question, find_questions
from store.rounds import Round

STYLES = ("cot", "direct")


def evaluate(ctx: Context, state: Round) -> None:
    """Evaluate the round's candidate; in round 0 the base model first, so that the log shows the start."""
    if state.number == 0:
        evaluate_policy(ctx, state.serving, state.number)
    if state.candidate is not None:
        evaluate_policy(ctx, state.candidate, state.number)


def evaluate_policy(ctx: Context, policy: int, number: int) -> None:
    """Answer what the policy has not answered yet, committing every few hundred answers."""
    settings = ctx.config.evaluation
    questions = {
        question.id: question
        for question in find_questions(ctx.store, "split = ? ORDER BY id LIMIT ?", settings.split, settings.limit or -1)
    }
    answered = {
        (row[0], row[1])
        for row in ctx.store.rows(
            "SELECT question, style FROM evaluation WHERE policy = ? AND split = ?", policy, settings.split
        )
    }
    total = len(questions) * len(STYLES)
    if len(answered) >= total:
        return
    sampler = serve(ctx, policy, number)

    def requests() -> Iterator[Request]:
        for style in STYLES:
            for question in questions.values():
                if (question.id, style) not in answered:
                    yield Request((question.id, style), ctx.prompt(question, style), 0.0, settings.max_tokens)

    batch: list[tuple[object, ...]] = []

    def commit() -> None:
        with ctx.store.transaction():
            ctx.store.db.conn.executemany(
                "INSERT INTO evaluation (policy, split, style, question, text, tokens, finish_reason,"
                " judge, judge_version, extracted, score, outcome, created)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                batch,
            )
        batch.clear()
        ctx.check_stop()

    with ctx.console.bar(f"evaluating policy {policy}", total, "answer", len(answered)) as bar:
        for chain in sampler.sample(requests()):
            assert isinstance(chain.key, tuple)
            question, style = chain.key
            batch.append(_row(policy, settings.split, style, questions[question], chain))
            bar.update()
            if len(batch) >= COMMIT_CHAINS:
                commit()
        commit()


def _row(policy: int, split: str, style: str, question: Question, chain: Chain) -> tuple[object, ...]:
    judge = JUDGES[question.judge]
    verdict = give_verdict(
        judge,
        chain.text,
        question.answers,
        finish_reason=chain.finish_reason,
        needs_marker=style == "cot",
    )
    return (
        policy,
        split,
        style,
        question.id,
        chain.text,
        len(chain.token_ids),
        chain.finish_reason,
        judge.name,
        judge.version,
        verdict.extracted,
        verdict.score,
        verdict.outcome,
        now_s(),
    )
