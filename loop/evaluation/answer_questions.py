"""Asks a policy held-out questions greedily, judges the answers and stores them."""

from collections.abc import Iterator, Sequence

from loop.context import Context
from loop.evaluation.commit_groups import commit_groups
from loop.evaluation.judge_chains import ChainToJudge, as_columns, judge_chains
from loop.evaluation.refusals import Refusals
from loop.questions.registry import FAITHFULNESS
from loop.swap_and_prove import serve_policy
from policies.sampler import Chain, Request
from store.evaluations import NewEvaluation, add_evaluations, present_evaluations
from store.questions import Question
from store.unusable import unusable_questions


def evaluate_policy(
    ctx: Context, policy: int, number: int | None, split: str, asked: Sequence[Question], styles: Sequence[str]
) -> None:
    """Ask the questions that the policy has not answered yet, committing every few hundred answers.

    Unusable questions are not asked; one that the sampler refuses becomes unusable.
    """
    unusable = unusable_questions(ctx.store)
    questions = {question.id: question for question in asked if question.id not in unusable}
    answered = present_evaluations(ctx.store, policy, split)
    missing = [(q, style) for style in styles for q in questions if (q, style) not in answered]
    if not missing:
        return
    sampler = serve_policy(ctx, policy, number)

    def requests() -> Iterator[Request]:
        for question, style in missing:
            prompt = ctx.prompt(questions[question], style)
            yield Request((question, style), prompt, 0.0, ctx.config.evaluation.max_tokens)

    check = FAITHFULNESS.get(ctx.config.questions.source)

    def faithful(chain: ChainToJudge) -> bool | None:
        return check(chain.text, chain.question.images) if check and chain.style == "cot" else None

    def commit(group: list[Chain]) -> None:
        answers = [ChainToJudge(questions[c.key[0]], c.text, c.key[1], c.finish_reason) for c in group]  # type: ignore[index]
        evaluations = [
            NewEvaluation(
                policy,
                split,
                c.style,
                c.question.id,
                c.text,
                len(chain.token_ids),
                c.finish_reason,
                faithful(c),
                *as_columns(verdict),
            )
            for chain, c, verdict in zip(group, answers, judge_chains(ctx, answers), strict=True)
        ]
        with ctx.store.transaction():
            add_evaluations(ctx.store, evaluations)
            refused.record()

    taken, refused = bool(answered), Refusals(ctx)
    total = len(questions) * len(styles)
    with ctx.reporter.bar(f"evaluating policy {policy} ({split})", total, "answer", total - len(missing)) as bar:
        for group in commit_groups(ctx, sampler.sample(requests(), refused), bar):
            commit(group)
            taken = True
    refused.finish(taken=taken)
