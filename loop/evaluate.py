"""Phase `evaluate`: a policy's greedy answers to held-out questions.

The `test` split is what is reported, in both prompt styles. The `gate` split is what the gate decides by,
in the style that is trained and those it guards: a split that is looked at again and again would flatter what it chose.
"""

from collections.abc import Iterator, Sequence

from loop.commit_groups import commit_groups
from loop.comparison import gate_split, gate_styles
from loop.context import Context
from loop.gate import compared_policy, gate_questions
from loop.sources import FAITHFULNESS
from loop.swap import serve
from loop.verdicts import JudgedChain, as_columns, judge_chains
from policies.sampler import Chain, Request
from store.database import now_s
from store.questions import Question, find_questions
from store.rounds import Round

STYLES = ("cot", "direct")


def evaluate(ctx: Context, state: Round) -> None:
    """Evaluate the round's candidate; in round 0 the base model first, so that the log shows the start.

    What the gate compares the candidate with answers the gate's questions too, where it has not:
    questions may have been added.
    """
    split, settings = gate_split(ctx.store, ctx.config.evaluation.split), ctx.config.evaluation
    reported = find_questions(ctx.store, "split = ? ORDER BY id LIMIT ?", settings.split, settings.limit or -1)
    if state.number == 0:
        evaluate_policy(ctx, state.serving, state.number, settings.split, reported, STYLES)
    if state.candidate is None:
        return
    evaluate_policy(ctx, state.candidate, state.number, settings.split, reported, STYLES)
    decisive, styles = gate_questions(ctx.store, ctx.config), gate_styles(ctx.config)
    evaluate_policy(ctx, state.candidate, state.number, split, decisive, styles)
    if state.number > 0:
        for style in styles:
            evaluate_policy(ctx, compared_policy(ctx, state, style), state.number, split, decisive, [style])


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
    with ctx.console.bar(f"evaluating policy {policy} ({split})", total, "answer", total - len(missing)) as bar:
        for group in commit_groups(ctx, sampler.sample(requests()), bar):
            commit(group)
