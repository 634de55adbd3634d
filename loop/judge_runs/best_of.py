"""Best of K by a judge run, beside the judge's own answers, because a judge that solves questions need not judge."""

from collections import Counter
from collections.abc import Sequence

from loop.context import Context
from loop.evaluation.best_of import Figure, paired_figure
from loop.evaluation.judge_chains import ChainToJudge, judge_chains
from loop.judge_runs.ask import JudgeRequest, Match, ask, shares_of_first
from loop.judge_runs.judge_run import JudgeRun
from loop.judge_runs.knockout import knockout
from store.evaluations import evaluation_samples, greedy_outcomes
from store.questions import Question


def best_of_by_judge(
    ctx: Context, judge: JudgeRun, policy: int, split: str, questions: Sequence[Question], samples: int
) -> list[Figure]:
    """The winner of a knockout among each question's K chains; chains and greedy answers must be stored.

    Chains without an answer take no part. A chain that was sampled more often stands first, and wins if the judge
    prefers neither. The first figure is tested against the policy's greedy answers, as majority
    vote is; the second is the judge's own greedy answer to the question.
    """
    style = ctx.config.sampling.style
    greedy = greedy_outcomes(ctx.store, policy, split, style)
    asked = [question for question in questions if question.id in greedy]
    sampled: dict[int, Counter[str]] = {question.id: Counter() for question in asked}
    correct: dict[tuple[int, str], bool] = {}
    for row in evaluation_samples(ctx.store, policy, split, style, samples):
        if row["outcome"] in ("correct", "wrong") and row["question"] in sampled:
            sampled[row["question"]][row["text"]] += 1
            correct[row["question"], row["text"]] = row["outcome"] == "correct"

    def compare(matches: Sequence[tuple[int, str, str]]) -> list[float]:
        between = [Match(asked[place], first, second) for place, first, second in matches]
        return shares_of_first(ctx, judge, between, "judging chains")

    candidates = [[text for text, _ in sampled[question.id].most_common()] for question in asked]
    winners = knockout(candidates, compare)
    right = [
        winner is not None and correct[question.id, winner] for question, winner in zip(asked, winners, strict=True)
    ]
    before = [bool(greedy[question.id]) for question in asked]
    own = _own_answers(ctx, judge, asked, style)
    return [paired_figure("best of K, judged", right, before), paired_figure("judge's answer", own, before)]


def _own_answers(ctx: Context, judge: JudgeRun, questions: Sequence[Question], style: str) -> list[bool]:
    requests = [JudgeRequest(question.id, ctx.prompt(question, style)) for question in questions]
    calls = ask(ctx, judge, requests, "the judge's own answers")
    chains = [
        ChainToJudge(question, call.text, style, call.finish_reason)
        for question, call in zip(questions, calls, strict=True)
    ]
    return [judged.verdict.outcome == "correct" for judged in judge_chains(ctx, chains)]
