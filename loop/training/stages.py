"""The stages of an update: which algorithm learns from what. To add an algorithm: its file, and a line here."""

from loop.config.learner import LearnerConfig, TrainingConfig
from loop.context import Context, Stage, Stages
from loop.training.grpo_items import grpo_items
from loop.training.references import completion_references, pair_references
from loop.training.training_items import cold_start_items, imitation_items, pair_items
from policies.learner.base import Algorithm, TrainingSettings
from policies.learner.dpo import Dpo
from policies.learner.sft import Sft


def sft(ctx: Context) -> Algorithm:
    """SFT has no settings of its own."""
    return Sft()


def dpo(ctx: Context) -> Algorithm:
    """DPO by `[update]`, against the start, a moving reference, or what the items hold of the cold start's policy."""
    settings = ctx.config.update
    return Dpo(
        losses=settings.losses,
        beta=settings.beta,
        label_smoothing=settings.label_smoothing,
        ema_steps=settings.ema_steps if settings.reference == "ema" else None,
        ema_mixup=settings.ema_mixup,
    )


def grpo(ctx: Context) -> Algorithm:
    """GRPO by `[grpo]`, held to its start or to what the items hold of the cold start's policy, if held at all."""
    from policies.learner.grpo import Grpo  # TRL loads what it generates with, which takes seconds

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


def training_settings(table: TrainingConfig, learner: LearnerConfig, seed: int) -> TrainingSettings:
    """The learner's settings of a training table and of `[learner]`."""
    return TrainingSettings(
        learning_rate=table.learning_rate,
        epochs=table.epochs,
        batch_size=table.batch_size,
        seed=seed,
        accumulation=table.accumulation,
        scheduler=table.scheduler,
        warmup_ratio=table.warmup_ratio,
        max_grad_norm=table.max_grad_norm,
        weight_decay=table.weight_decay,
        mixed_precision=table.mixed_precision,
        gradient_checkpointing=table.gradient_checkpointing,
        frozen=tuple(table.frozen),
        lora_rank=table.lora_rank,
        lora_alpha=table.lora_alpha,
        lora_dropout=table.lora_dropout,
        lora_targets=table.lora_targets if isinstance(table.lora_targets, str) else tuple(table.lora_targets),
        lora_rslora=table.lora_rslora,
        lora_init=table.lora_init,
        optimizer=learner.optimizer,
        checkpoint_minutes=learner.checkpoint_minutes,
    )
