"""Items of GRPO: the round's samples, each with its advantage within its question."""

from collections.abc import Iterator

from loop.config.update import GrpoConfig
from loop.context import Context
from loop.training.pair_candidates import QuestionSamples, judged_questions
from loop.training.pair_rules import JudgedSample
from loop.training.rewards import advantages, total_rewards
from policies.learner.items import GrpoItem
from store.questions import questions_by_id
from store.rounds import Round


def grpo_items(ctx: Context, round_: Round) -> list[GrpoItem]:
    """The samples of the questions whose samples differ in reward; nothing with `grpo.groups = "none"`."""
    settings = ctx.config.grpo
    if settings.groups == "none":
        return []
    found = [
        (own.question, sample, advantage)
        for own in judged_questions(ctx, round_)
        for sample, advantage in group_advantages(own, settings)
    ]
    questions = questions_by_id(ctx.store, {question for question, _, _ in found})
    style = ctx.config.sampling.style
    return [
        GrpoItem(ctx.prompt(questions[question], style), sample.token_ids, advantage)
        for question, sample, advantage in found
    ]


def group_advantages(own: QuestionSamples, settings: GrpoConfig) -> Iterator[tuple[JudgedSample, float]]:
    """A question's samples with their advantages; a text counts as often as it was sampled.

    Samples with `judge_error` are left out, and truncated ones with `grpo.truncated = "mask"`, because their answer is
    unknown. A group of one sample, or of equal rewards, has no advantages.
    """
    left_out = {"judge_error"} | ({"truncated"} if settings.truncated == "mask" else set())
    group = [sample for sample in own.samples for _ in range(sample.copies) if sample.outcome not in left_out]
    all_right = bool(group) and all(sample.outcome == "correct" for sample in group)
    if not group or (all_right and settings.groups == "mixed"):
        return
    scale = settings.scale_rewards and not all_right
    found = advantages(total_rewards(group, settings.rewards), scale=scale)
    if found is not None:
        yield from zip(group, found, strict=True)
