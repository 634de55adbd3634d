"""A policy's greedy answers to held-out questions, judged and kept."""

from collections.abc import Iterator, Sequence

from loop.context import Context
from loop.evaluation.commit_groups import commit_groups
from loop.evaluation.judge_chains import JudgedChain, as_columns, judge_chains
from loop.questions.registry import FAITHFULNESS
from loop.serving import serve
from policies.sampler import Chain, Request
from store.database import now_s
from store.questions import Question


def evaluate_policy(
    ctx: Context, policy: int, number: int | None, split: str, asked: Sequence[Question], styles: Sequence[str]
) -> None:
    """Answer what the policy has not answered yet, committing every few hundred answers."""
    questions = {question.id: question for question in asked}
    answered = {
        (row[0], row[1])
        for row in ctx.store.rows(
            "SELECT question, style FROM evaluation WHERE policy = ? AND split = ?", policy, split
        )
    }
    missing = [(q, style) for style in styles for q in questions if (q, style) not in answered]
    if not missing:
        return
    sampler = serve(ctx, policy, number)

    def requests() -> Iterator[Request]:
        for question, style in missing:
            prompt = ctx.prompt(questions[question], style)
            yield Request((question, style), prompt, 0.0, ctx.config.evaluation.max_tokens)

    check = FAITHFULNESS.get(ctx.config.questions.source)

    def faithful(chain: JudgedChain) -> bool | None:
        return check(chain.text, chain.question.images) if check and chain.style == "cot" else None

    def commit(group: list[Chain]) -> None:
        answers = [JudgedChain(questions[c.key[0]], c.text, c.key[1], c.finish_reason) for c in group]  # type: ignore[index]
        rows = [
            (
                policy,
                split,
                c.style,
                c.question.id,
                c.text,
                len(chain.token_ids),
                c.finish_reason,
                faithful(c),
                *as_columns(verdict),
                now_s(),
            )
            for chain, c, verdict in zip(group, answers, judge_chains(ctx, answers), strict=True)
        ]
        with ctx.store.transaction():
            ctx.store.connection.executemany(
                "INSERT INTO evaluation (policy, split, style, question, text, tokens, finish_reason, faithful,"
                " judge, judge_version, extracted, score, outcome, flags, created)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                rows,
            )

    total = len(questions) * len(styles)
    with ctx.reporter.bar(f"evaluating policy {policy} ({split})", total, "answer", total - len(missing)) as bar:
        for group in commit_groups(ctx, sampler.sample(requests()), bar):
            commit(group)
