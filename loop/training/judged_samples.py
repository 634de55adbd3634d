"""Win rates of a round's samples by a judge run, for the pair rule `judged`."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from loop.context import Context
from loop.judge_runs.judge_run import open_judge_run
from loop.judge_runs.win_rates import win_rates
from loop.training.pair_candidates import QuestionSamples
from store.questions import questions_by_id


def with_win_rates(ctx: Context, groups: Sequence[QuestionSamples]) -> Iterator[QuestionSamples]:
    """The groups with the win rate of every sample that has an answer; the judge is asked for missing verdicts."""
    assert ctx.config.pairs.judge_run is not None
    judge = open_judge_run(Path(ctx.config.pairs.judge_run))
    questions = questions_by_id(ctx.store, [own.question for own in groups])
    texts = {own.question: [s.text for s in own.samples if s.outcome in ("correct", "wrong")] for own in groups}
    found = win_rates(ctx, judge, questions, texts, "comparing samples")
    for own in groups:
        rates = found.get(own.question, {})
        yield replace(own, samples=[sample._replace(win_rate=rates.get(sample.text)) for sample in own.samples])
