"""The trainings that an update is made of."""

from dataclasses import dataclass

from loop.config.schema import TrainingConfig
from policies.learner import (
    TrainingResult,
    TrainingSettings,
)


@dataclass(frozen=True)
class Stage:
    """One training of an update: its method, recipe table, items, and what came of it."""

    method: str
    recipe: TrainingConfig
    items: int
    result: TrainingResult


def training_settings(recipe: TrainingConfig, seed: int) -> TrainingSettings:
    """The learner's settings of a recipe table."""
    return TrainingSettings(
        learning_rate=recipe.learning_rate,
        epochs=recipe.epochs,
        batch_size=recipe.batch_size,
        seed=seed,
        accumulation=recipe.accumulation,
        scheduler=recipe.scheduler,
        warmup_ratio=recipe.warmup_ratio,
        max_grad_norm=recipe.max_grad_norm,
        weight_decay=recipe.weight_decay,
        mixed_precision=recipe.mixed_precision,
        gradient_checkpointing=recipe.gradient_checkpointing,
        frozen=tuple(recipe.frozen),
        lora_rank=recipe.lora_rank,
        lora_alpha=recipe.lora_alpha,
    )
