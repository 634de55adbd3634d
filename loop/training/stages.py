"""The table of an update's stages: items and algorithm of each. To add an algorithm, add its file and a line here."""

from dataclasses import fields
from typing import Any

from loop.config.learner import LearnerConfig, TrainingConfig
from loop.context import Context, Stage, Stages
from loop.training.grpo_items import grpo_items
from loop.training.references import completion_references, pair_references
from loop.training.training_items import cold_start_items, imitation_items, pair_items
from policies.learner.base import Algorithm, TrainingSettings
from policies.learner.dpo import Dpo
from policies.learner.sft import Sft


def sft(ctx: Context) -> Algorithm:
    """SFT, which has no settings."""
    return Sft()


def dpo(ctx: Context) -> Algorithm:
    """DPO by `[update]`; the reference is the start, a moving model, or the cold start's policy (in the items)."""
    settings = ctx.config.update
    return Dpo(
        losses=settings.losses,
        beta=settings.beta,
        label_smoothing=settings.label_smoothing,
        ema_steps=settings.ema_steps if settings.reference == "ema" else None,
        ema_mixup=settings.ema_mixup,
    )


def grpo(ctx: Context) -> Algorithm:
    """GRPO by `[grpo]`; a KL reference, if any, is the start or the cold start's policy (stored in the items)."""
    from policies.learner.grpo import Grpo  # TRL imports its generation code, which takes seconds

    settings = ctx.config.grpo
    return Grpo(
        loss=settings.loss,
        clip=settings.clip,
        clip_high=settings.clip_high,
        beta=settings.beta,
        max_tokens=ctx.config.sampling.max_tokens,
    )


STAGES = Stages(
    cold_start=(Stage("sft", lambda config: config.cold_start, cold_start_items, sft),),
    rounds=(
        Stage("rft", lambda config: config.rft, imitation_items, sft),
        Stage("dpo", lambda config: config.update, pair_items, dpo, pair_references),
        Stage("grpo", lambda config: config.grpo, grpo_items, grpo, completion_references),
    ),
)


SETTINGS = {field.name for field in fields(TrainingSettings)}


def training_settings(table: TrainingConfig, learner: LearnerConfig, seed: int) -> TrainingSettings:
    """The learner's settings of a training table and of `[learner]`; keys and settings have the same names."""
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for source in (table, learner)
        for name, value in source
        if name in SETTINGS
    }
    return TrainingSettings(**values, seed=seed)
