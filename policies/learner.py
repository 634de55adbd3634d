"""Training through TRL and accelerate, on token ids that somebody else has already made."""

import copy
import gc
import math
import re
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig, PeftModel
from transformers import (
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    PrinterCallback,
    TrainerCallback,
)
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

from policies import PolicyError, first_line
from policies.encoding import Encoder, Prompt

Progress = Callable[[int, int, float | None], None]
"""(steps done, steps in all, latest loss) -> None."""


class TrainingDiverged(PolicyError):
    """The loss or the weights are not numbers any more: there is nothing to publish."""


@dataclass(frozen=True)
class SftItem:
    """A prompt and the completion to imitate."""

    prompt: Prompt
    completion: tuple[int, ...]


@dataclass(frozen=True)
class PairItem:
    """A prompt with a chosen and a rejected completion, as the sampler wrote them."""

    prompt: Prompt
    chosen: tuple[int, ...]
    rejected: tuple[int, ...]


@dataclass(frozen=True)
class TrainingSettings:
    """What every update needs to know."""

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
class DpoSettings:
    """TRL's losses by name with their weights (`sigmoid`, `sft`, `ipo`, ...), and beta.

    With `ema_steps` the reference follows the policy: every so many steps it becomes
    `ema_mixup` * policy + (1 - `ema_mixup`) * reference (TR-DPO, arXiv 2404.09656).
    """

    losses: dict[str, float] = field(default_factory=lambda: {"sigmoid": 1.0})
    beta: float = 0.1
    label_smoothing: float = 0.0
    ema_steps: int | None = None
    ema_mixup: float = 0.6


@dataclass(frozen=True)
class TrainingStep:
    """What the trainer said at an optimizer step. DPO's alone: `margin`, by how many nats (times beta) the chosen
    side's implicit reward exceeds the rejected one's, and `accuracy`, the share of pairs where it does.
    """

    step: int
    loss: float
    learning_rate: float | None = None
    margin: float | None = None
    accuracy: float | None = None


@dataclass(frozen=True)
class TrainingResult:
    """The trained model (in memory), optimizer steps, mean loss, seconds, TRL's last metrics, every step."""

    model: Any
    steps: int
    loss: float
    seconds: float
    metrics: dict[str, float]
    curve: tuple[TrainingStep, ...]


def load_model(model: str, encoder: Encoder, *, trust_remote_code: bool = False) -> Any:
    """Load a policy for training or scoring, on the accelerator if there is one.

    In float32, whatever the sampler computes in: at the learning rates of DPO a bfloat16 weight is
    too coarse to move at all. `mixed_precision` makes the arithmetic bfloat16.
    """
    loader: Any = AutoModelForImageTextToText if encoder.is_vision else AutoModelForCausalLM
    try:
        loaded = loader.from_pretrained(
            model,
            dtype=torch.float32,
            use_safetensors=True,
            trust_remote_code=trust_remote_code,
        )
    except (OSError, ValueError) as error:
        raise PolicyError(f"{model}: its weights cannot be loaded ({first_line(error)})") from error
    return loaded.to("cuda") if torch.cuda.is_available() else loaded


def free_accelerator() -> None:
    """Give memory of models that are gone back to the card, for the sampler to use."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def train_sft(
    model: Any,
    encoder: Encoder,
    items: Sequence[SftItem],
    settings: TrainingSettings,
    work_dir: Path,
    progress: Progress,
) -> TrainingResult:
    """Supervised fine-tuning with TRL's SFTTrainer; the loss covers completions only."""

    def collate(rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        chosen = [items[row["item"]] for row in rows]
        batch = encoder.batch([i.prompt for i in chosen], [i.completion for i in chosen])
        batch["labels"] = encoder.labels(batch)
        del batch["completion_mask"]
        return batch

    rows = [{"item": n, "length": len(i.completion)} for n, i in enumerate(items)]
    arguments = SFTConfig(
        **_arguments(settings, work_dir),
        max_length=None,
        dataset_kwargs={"skip_prepare_dataset": True},
    )
    trainer = SFTTrainer(
        model=_frozen(model, settings.frozen),
        args=arguments,
        data_collator=collate,
        train_dataset=Dataset.from_list(rows),
        processing_class=encoder.processor,
        callbacks=[_Progress(progress)],
        peft_config=_lora(settings),
    )
    return _train(trainer)


class _PairTrainer(DPOTrainer):  # type: ignore[misc]
    """DPOTrainer whose rows are already token ids: there is nothing to prepare."""

    def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
        return dataset


def train_dpo(
    model: Any,
    encoder: Encoder,
    items: Sequence[PairItem],
    settings: TrainingSettings,
    dpo: DpoSettings,
    work_dir: Path,
    progress: Progress,
    reference: Any = None,
) -> TrainingResult:
    """DPO (Rafailov et al., arXiv 2305.18290) with TRL's DPOTrainer on the sampler's own token ids.

    Without a `reference` the model as it comes is the reference.
    """
    if reference is None and not settings.lora_rank:
        reference = copy.deepcopy(model)

    def collate(rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        pairs = [items[row["item"]] for row in rows]
        return encoder.batch([p.prompt for p in pairs], [p.chosen for p in pairs], [p.rejected for p in pairs])

    rows = [{"item": n, "length": max(len(i.chosen), len(i.rejected))} for n, i in enumerate(items)]
    arguments = DPOConfig(
        **_arguments(settings, work_dir),
        beta=dpo.beta,
        loss_type=list(dpo.losses),
        loss_weights=list(dpo.losses.values()),
        label_smoothing=dpo.label_smoothing,
        sync_ref_model=dpo.ema_steps is not None,
        ref_model_sync_steps=dpo.ema_steps or 1,
        ref_model_mixup_alpha=dpo.ema_mixup,
        max_length=None,
    )
    trainer = _PairTrainer(
        model=_frozen(model, settings.frozen),
        ref_model=reference,
        args=arguments,
        data_collator=collate,
        train_dataset=Dataset.from_list(rows),
        processing_class=encoder.processor,
        callbacks=[_Progress(progress)],
        peft_config=_lora(settings),
    )
    return _train(trainer)


def _lora(settings: TrainingSettings) -> LoraConfig | None:
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


def _arguments(settings: TrainingSettings, work_dir: Path) -> dict[str, Any]:
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


def _frozen(model: Any, patterns: Sequence[str]) -> Any:
    """Freeze every parameter whose name contains one of the patterns."""
    names = [name for name, _ in model.named_parameters()]
    for pattern in patterns:
        if not any(pattern in name for name in names):
            raise PolicyError(f"update.frozen: no parameter of this model has {pattern!r} in its name")
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not any(pattern in name for pattern in patterns))
    return model


def _train(trainer: Any) -> TrainingResult:
    trainer.remove_callback(PrinterCallback)
    started = time.monotonic()
    output = trainer.train()
    model = trainer.accelerator.unwrap_model(trainer.model)
    if isinstance(model, PeftModel):
        model = model.merge_and_unload()
    for name, parameter in model.named_parameters():
        if not parameter.isfinite().all():
            raise TrainingDiverged(f"training diverged: after the last step {name} is not finite")
    history = [entry for entry in trainer.state.log_history if "loss" in entry]
    end = history[-max(1, len(history) // 10) :]  # one step's margin is mostly noise
    kept = {k: statistics.mean(float(entry[k]) for entry in end) for k in (end[0] if end else ()) if k != "epoch"}
    seconds = time.monotonic() - started
    curve = tuple(_step(entry) for entry in history)
    return TrainingResult(model, output.global_step, float(output.training_loss), seconds, kept, curve)


def _step(entry: dict[str, Any]) -> TrainingStep:
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


class _Progress(TrainerCallback):  # type: ignore[misc]
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
