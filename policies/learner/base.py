"""What every learning algorithm shares: settings, results, and the training through TRL and accelerate."""

import math
import re
import statistics
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from datasets import Dataset
from peft import LoraConfig, PeftModel
from transformers import PrinterCallback, Trainer, TrainerCallback

from policies import PolicyError
from policies.encoding import Encoder

Progress = Callable[[int, int, float | None], None]
"""(steps done, steps in all, latest loss) -> None."""


class TrainingDiverged(PolicyError):
    """The loss or the weights are not numbers any more: there is nothing to publish."""


@dataclass(frozen=True)
class TrainingSettings:
    """Settings that every algorithm needs, by the names of the configuration's training tables."""

    learning_rate: float
    epochs: float
    batch_size: int
    seed: int
    accumulation: int = 1
    scheduler: str = "cosine"
    warmup_ratio: float = 0.03
    max_grad_norm: float = 1.0
    weight_decay: float = 0.0
    mixed_precision: str = "no"
    gradient_checkpointing: bool = False
    frozen: tuple[str, ...] = ()
    lora_rank: int = 0
    lora_alpha: int = 32


@dataclass(frozen=True)
class TrainingStep:
    """Figures of one optimizer step. Pairs alone have `margin`, by how many nats (times beta) the chosen side's
    implicit reward exceeds the rejected one's, and `accuracy`, the share of pairs where it does.
    """

    step: int
    loss: float
    learning_rate: float | None = None
    margin: float | None = None
    accuracy: float | None = None


@dataclass(frozen=True)
class TrainingResult:
    """The trained model (in memory), optimizer steps, mean loss, seconds, TRL's last metrics, every step.

    `remarks` are lines for the user about settings that had no effect.
    """

    model: Any
    steps: int
    loss: float
    seconds: float
    metrics: dict[str, float]
    curve: tuple[TrainingStep, ...]
    remarks: tuple[str, ...] = ()


class Algorithm(ABC):
    """A way to learn from items. One algorithm is one file; `loop/training/stages.py` has the table of them.

    An instance holds the algorithm's own settings. Its class gives the trainer, the batch and the length of an item;
    the training around them is the same for all.
    """

    config_class: ClassVar[type]
    """The trainer's arguments class, for example `trl.SFTConfig`."""

    def train(
        self,
        model: Any,
        encoder: Encoder,
        items: Sequence[Any],
        settings: TrainingSettings,
        work_dir: Path,
        progress: Progress,
    ) -> TrainingResult:
        """Train `model` in place on every item. Raises TrainingDiverged where loss or weights stop being numbers."""

        def collate(rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
            return self.batch(encoder, [items[row["item"]] for row in rows])

        rows = [{"item": n, "length": self.length(item)} for n, item in enumerate(items)]
        trainer = self.trainer(
            model=freeze(model, settings.frozen),
            args=self.config_class(**trainer_arguments(settings, work_dir), **self.arguments()),
            data_collator=collate,
            train_dataset=Dataset.from_list(rows),
            processing_class=encoder.processor,
            callbacks=[_ReportProgress(progress), _WarmUpFromFirstStep()],
            peft_config=lora_config(settings),
        )
        result = run_trainer(trainer)
        return replace(result, remarks=self.remarks(result.steps))

    @abstractmethod
    def trainer(self, **common: Any) -> Trainer:
        """The trainer, from the keyword arguments that all trainers share."""

    @abstractmethod
    def batch(self, encoder: Encoder, items: Sequence[Any]) -> dict[str, torch.Tensor]:
        """The tensors of a batch of items."""

    @abstractmethod
    def length(self, item: Any) -> int:
        """Completion tokens of an item: items of like length share a batch."""

    def arguments(self) -> dict[str, Any]:
        """The trainer's arguments that are this algorithm's own."""
        return {}

    def remarks(self, steps: int) -> tuple[str, ...]:
        """Lines for the user about settings that had no effect in so many steps."""
        return ()


def lora_config(settings: TrainingSettings) -> LoraConfig | None:
    """Low-rank adapters (arXiv 2106.09685) on every linear layer that is not frozen, if the recipe wants them."""
    if not settings.lora_rank:
        return None
    excluded = "|".join(re.escape(pattern) for pattern in settings.frozen)
    return LoraConfig(
        r=settings.lora_rank,
        lora_alpha=settings.lora_alpha,
        target_modules="all-linear",
        exclude_modules=f".*(?:{excluded}).*" if excluded else None,
    )


def trainer_arguments(settings: TrainingSettings, work_dir: Path) -> dict[str, Any]:
    """Arguments of transformers' Trainer that are the same for every algorithm."""
    return {
        "output_dir": str(work_dir),
        "per_device_train_batch_size": settings.batch_size,
        "gradient_accumulation_steps": settings.accumulation,
        "num_train_epochs": settings.epochs,
        "learning_rate": settings.learning_rate,
        "lr_scheduler_type": settings.scheduler,
        "warmup_steps": settings.warmup_ratio,
        "max_grad_norm": settings.max_grad_norm,
        "weight_decay": settings.weight_decay,
        "bf16": settings.mixed_precision == "bf16",
        "gradient_checkpointing": settings.gradient_checkpointing,
        "train_sampling_strategy": "group_by_length",
        "length_column_name": "length",
        "remove_unused_columns": False,
        "save_strategy": "no",
        "report_to": "none",
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "disable_tqdm": True,
        "seed": settings.seed,
        "data_seed": settings.seed,
        "use_cpu": not torch.cuda.is_available(),
        "dataloader_pin_memory": torch.cuda.is_available(),
    }


def freeze(model: Any, patterns: Sequence[str]) -> Any:
    """Freeze every parameter whose name contains one of the patterns. Raises PolicyError if a pattern matches none."""
    names = [name for name, _ in model.named_parameters()]
    for pattern in patterns:
        if not any(pattern in name for name in names):
            raise PolicyError(f"update.frozen: no parameter of this model has {pattern!r} in its name")
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not any(pattern in name for pattern in patterns))
    return model


def run_trainer(trainer: Any) -> TrainingResult:
    """Train to the end, merge adapters into the model, and check that every weight is a number."""
    trainer.remove_callback(PrinterCallback)
    started = time.monotonic()
    output = trainer.train()
    model = without_autocast(trainer.accelerator.unwrap_model(trainer.model))
    if isinstance(model, PeftModel):
        model = model.merge_and_unload()
    for name, parameter in model.named_parameters():
        if not parameter.isfinite().all():
            raise TrainingDiverged(f"training diverged: after the last step {name} is not finite")
    history = [entry for entry in trainer.state.log_history if "loss" in entry]
    end = history[-max(1, len(history) // 10) :]  # one step's margin is mostly noise
    kept = {k: statistics.mean(float(entry[k]) for entry in end) for k in (end[0] if end else ()) if k != "epoch"}
    seconds = time.monotonic() - started
    curve = tuple(_training_step(entry) for entry in history)
    return TrainingResult(model, output.global_step, float(output.training_loss), seconds, kept, curve)


def without_autocast(model: Any) -> Any:
    """The model with its own forward pass: accelerate leaves autocast on a model that it trained in mixed precision.

    Scores would be bfloat16's then. (accelerate's `keep_fp32_wrapper=False` takes transformers' own wrappers off too.)
    """
    if "_original_forward" in model.__dict__:
        model.forward = model.__dict__.pop("_original_forward")
    return model


def _training_step(entry: dict[str, Any]) -> TrainingStep:
    """A line of the trainer's log."""
    figures = {
        name: float(entry[key])
        for name, key in (
            ("learning_rate", "learning_rate"),
            ("margin", "rewards/margins"),
            ("accuracy", "rewards/accuracies"),
        )
        if key in entry
    }
    return TrainingStep(int(entry["step"]), float(entry["loss"]), **figures)


class _WarmUpFromFirstStep(TrainerCallback):  # type: ignore[misc]
    """Warms up over steps 1 to `warmup`, the last of them at the full rate.

    transformers counts them from 0, so its first step has rate 0: an update of a single step would change nothing.
    """

    def on_train_begin(self, args: Any, state: Any, control: Any, **parts: Any) -> None:
        warmup = args.get_warmup_steps(state.max_steps)
        scheduler = getattr(parts["lr_scheduler"], "scheduler", parts["lr_scheduler"])
        if not warmup or scheduler.last_epoch > 0 or any(shape(0) > 0 for shape in scheduler.lr_lambdas):
            return  # nothing to warm up, a training that goes on, or a schedule without warm-up
        scheduler.lr_lambdas = [_warmed_up(shape, warmup) for shape in scheduler.lr_lambdas]
        rates = zip(scheduler.optimizer.param_groups, scheduler.base_lrs, scheduler.lr_lambdas, strict=True)
        for group, rate, shape in rates:
            group["lr"] = rate * shape(0)
        scheduler._last_lr = [group["lr"] for group in scheduler.optimizer.param_groups]  # what the trainer logs


def _warmed_up(shape: Callable[[int], float], warmup: int) -> Callable[[int], float]:
    return lambda step: (step + 1) / warmup if step < warmup else shape(step)


class _ReportProgress(TrainerCallback):  # type: ignore[misc]
    def __init__(self, report: Progress) -> None:
        self._report = report

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        latest = state.log_history[-1].get("loss") if state.log_history else None
        self._report(state.global_step, state.max_steps, latest)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any], **_: Any) -> None:
        if not math.isfinite(loss := float(logs.get("loss", 0.0))):
            raise TrainingDiverged(
                f"training diverged: the loss is {loss} at step {state.global_step} of {state.max_steps}"
                f" (learning rate {args.learning_rate:g})"
            )
