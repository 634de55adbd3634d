"""Phase `evaluate`: a policy's greedy answers to the held-out questions, in both prompt styles."""

from collections.abc import Iterator

from loop.context import Context
from loop.sample import COMMIT_CHAINS
from loop.swap import serve
from loop.verdicts import JudgedChain, as_columns, judge_chains
from policies.sampler import Request
from store.questions import find_questions
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

    batch: list[tuple[JudgedChain, int]] = []

    def commit() -> None:
        judged = judge_chains(ctx, [chain for chain, _ in batch])
        rows = [
            (policy, settings.split, c.style, c.question.id, c.text, tokens, c.finish_reason, *as_columns(verdict))
            for (c, tokens), verdict in zip(batch, judged, strict=True)
        ]
        with ctx.store.transaction():
            ctx.store.db.conn.executemany(
                "INSERT INTO evaluation (policy, split, style, question, text, tokens, finish_reason,"
                " judge, judge_version, extracted, score, outcome, flags)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                rows,
            )
        batch.clear()
        ctx.check_stop()

    with ctx.console.bar(f"evaluating policy {policy}", total, "answer", len(answered)) as bar:
        for chain in sampler.sample(requests()):
            assert isinstance(chain.key, tuple)
            question, style = chain.key
            judged = JudgedChain(questions[question], chain.text, style, chain.finish_reason)
            batch.append((judged, len(chain.token_ids)))
            bar.update()
            if len(batch) >= COMMIT_CHAINS:
                commit()
        commit()
