"""The base of all learning algorithms: settings, results, and the training through TRL and accelerate."""

import json
import statistics
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from datasets import Dataset
from peft import LoraConfig, PeftModel
from transformers import PrinterCallback, Trainer, set_seed

from policies import PolicyError
from policies.encoding import Encoder
from policies.learner.callbacks import Progress, TrainingDiverged, WarmUpFromFirstStep, Watch
from policies.learner.checkpoints import Checkpoints
from policies.learner.distributed import gathered, processes, shard_on_cpu, sharding_options, shared_out
from policies.learner.heap import freed_at_once
from policies.learner.lora import ALL_LINEAR, begin_adapter, check_targets, lora_config, merge, save_adapter
from policies.learner.optimizer_names import ROUNDED
from policies.learner.output_layer import small_tiles
from policies.learner.rounded_adamw import RoundedAdamW
from policies.learner.shared_state import from_first, is_first
from policies.verifier import ScoredChain, token_logprobs
from policies.weights import write_whole

SCORES = "scores.json"
"""What was found out of the items before the first step, beside the checkpoints."""


@dataclass(frozen=True)
class TrainingSettings:
    """Settings that every algorithm needs, by the names of the configuration's training tables.

    `batch_size` is that of all processes that train together. `sharded`: they share the weights too (FSDP2).
    """

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
    sharded: bool = False
    lora_dropout: float = 0.0
    lora_targets: str | tuple[str, ...] = ALL_LINEAR
    lora_rslora: bool = False
    lora_init: str = "default"
    optimizer: str = "adamw_torch_fused"
    checkpoint_minutes: float = 0.0


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

    `remarks` are lines for the user about settings that had no effect. `adapter` is the directory of the adapter that
    was merged into the model.
    """

    model: Any
    steps: int
    loss: float
    seconds: float
    metrics: dict[str, float]
    curve: tuple[TrainingStep, ...]
    remarks: tuple[str, ...] = ()
    adapter: Path | None = None


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
        """Train `model` in place on every item. Raises TrainingDiverged where loss or weights stop being numbers.

        A model that has an adapter goes on with it (`Learner.with_adapter`). A training that was killed goes on from
        its last checkpoint in `work_dir`, which the same items, settings and model must have to themselves.
        """
        checkpoints = Checkpoints(work_dir, settings.checkpoint_minutes)  # first: it measures the time
        items = self._scored(model, encoder, items, settings, work_dir, progress)

        def collate(rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
            return self.batch(encoder, [items[row["item"]] for row in rows])

        goes_on = isinstance(model, PeftModel)
        if settings.lora_rank and not goes_on:
            check_targets(model, settings.lora_targets, settings.frozen, "lora_targets")
        set_seed(settings.seed)  # an adapter's first weights are drawn before the trainer sets it
        rows = [{"item": n, "length": self.length(item)} for n, item in enumerate(items)]
        if not goes_on:  # peft froze all but the adapter
            model = freeze(model, settings.frozen)
        sharding = sharding_options(model) if settings.sharded else {}
        arguments = self.config_class(**trainer_arguments(settings, work_dir), **self.arguments(), **sharding)
        if settings.sharded:
            shard_on_cpu(arguments)
        trainer = self.trainer(
            model=model,
            args=arguments,
            data_collator=collate,
            train_dataset=Dataset.from_list(rows),
            processing_class=encoder.processor,
            callbacks=[Watch(progress, checkpoints), WarmUpFromFirstStep()],
            peft_config=None if goes_on else _lora_config(settings),
        )
        begin_adapter(trainer.model, settings.lora_init, settings.lora_dropout, work_dir)
        if settings.optimizer in ROUNDED and any(p.dtype == torch.bfloat16 for p in _trained(trainer.model)):
            options = {"lr": settings.learning_rate, "betas": (trainer.args.adam_beta1, trainer.args.adam_beta2)}
            trainer.optimizer_cls_and_kwargs = (RoundedAdamW, {**options, "seed": settings.seed})
        device, vocabulary = trainer.args.device.type, model.get_output_embeddings().weight.shape[0]
        saves_memory = goes_on or settings.lora_rank > 0 or settings.gradient_checkpointing
        with (
            freed_at_once(saves_memory and device == "cpu"),
            small_tiles(device, vocabulary),
            self.computing(model, encoder, items),
        ):
            result = run_trainer(trainer, settings, work_dir, checkpoints)
        sharded = (shared_out(result.model),) if settings.sharded else ()
        return replace(result, remarks=(*sharded, *self.remarks(result.steps)))

    def scores(self) -> tuple[str, ...]:
        """The fields of an item that `score` fills in."""
        return ()

    def score(
        self, model: Any, encoder: Encoder, items: Sequence[Any], settings: TrainingSettings, progress: Progress
    ) -> Sequence[Any]:
        """Items with the fields of `scores` filled in by the model before the first step, if they lack them."""
        return items

    def _scored(
        self,
        model: Any,
        encoder: Encoder,
        items: Sequence[Any],
        settings: TrainingSettings,
        work_dir: Path,
        progress: Progress,
    ) -> Sequence[Any]:
        """The scored items, kept in a file, so that a continued training need not score them again."""
        fields, file = self.scores(), work_dir / SCORES
        if not fields:
            return items
        found = from_first(file.read_text() if settings.checkpoint_minutes and file.exists() else None)
        if found is not None:
            known = zip(items, json.loads(found), strict=True)
            return [replace(item, **{name: tuple(value) for name, value in own.items()}) for item, own in known]
        scored = self.score(model, encoder, items, settings, progress)
        if settings.checkpoint_minutes and is_first():
            write_whole(file, json.dumps([{name: getattr(item, name) for name in fields} for item in scored]))
        return scored

    def computing(self, model: Any, encoder: Encoder, items: Sequence[Any]) -> AbstractContextManager[object]:
        """A context that the training runs in, for changes to the model's forward pass."""
        return nullcontext()

    @abstractmethod
    def trainer(self, **common: Any) -> Trainer:
        """The trainer, from the keyword arguments that all trainers share."""

    @abstractmethod
    def batch(self, encoder: Encoder, items: Sequence[Any]) -> dict[str, torch.Tensor]:
        """The tensors of a batch of items."""

    @abstractmethod
    def length(self, item: Any) -> int:
        """Completion tokens of an item: items of similar length share a batch."""

    def arguments(self) -> dict[str, Any]:
        """The trainer's arguments that are this algorithm's own."""
        return {}

    def remarks(self, steps: int) -> tuple[str, ...]:
        """Lines for the user about settings that had no effect in `steps` steps."""
        return ()


def _trained(model: Any) -> list[torch.nn.Parameter]:
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def logprobs_at_start(
    model: Any,
    encoder: Encoder,
    chains: Sequence[ScoredChain],
    settings: TrainingSettings,
    progress: Progress,
    sides: int = 1,
) -> list[list[float]]:
    """Log-probabilities of the chains' tokens before the first step, in the arithmetic of the training.

    `progress` counts chains here, and steps after it. `sides` is that of `policies.verifier.token_logprobs`.
    """
    done, together = 0, processes()

    def scored(count: int) -> None:
        nonlocal done
        done += count * together
        progress(min(done, len(chains)), len(chains), None)

    rank = torch.distributed.get_rank() if together > 1 else 0
    mine = [chain for n, chain in enumerate(chains) if n // sides % together == rank]
    own: list[list[float]] = token_logprobs(model, encoder, mine, scored, settings.mixed_precision, sides)
    if together == 1:
        return own
    groups = gathered([own[at : at + sides] for at in range(0, len(own), sides)], len(chains) // sides)
    return [tokens for group in groups for tokens in group]


def _lora_config(settings: TrainingSettings) -> LoraConfig | None:
    if not settings.lora_rank:
        return None
    return lora_config(
        settings.lora_rank,
        settings.lora_alpha,
        dropout=settings.lora_dropout,
        targets=settings.lora_targets,
        rslora=settings.lora_rslora,
        init=settings.lora_init,
        frozen=settings.frozen,
    )


def trainer_arguments(settings: TrainingSettings, work_dir: Path) -> dict[str, Any]:
    """Arguments of transformers' Trainer that are the same for every algorithm."""
    return {
        "output_dir": str(work_dir),
        "per_device_train_batch_size": settings.batch_size // processes(),
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
        "optim": settings.optimizer,
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
            raise PolicyError(f"frozen: no parameter of this model has {pattern!r} in its name")
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not any(pattern in name for pattern in patterns))
    return model


def run_trainer(trainer: Any, settings: TrainingSettings, work_dir: Path, checkpoints: Checkpoints) -> TrainingResult:
    """Train to the end, keep an adapter and merge it into the model, and check that every weight is a number."""
    trainer.remove_callback(PrinterCallback)
    output = trainer.train(resume_from_checkpoint=checkpoints.attach(trainer))
    model = without_autocast(trainer.accelerator.unwrap_model(trainer.model))
    adapter = None
    if isinstance(model, PeftModel):
        adapter = work_dir / "adapter"
        save_adapter(model, settings.lora_init, adapter)
        model = merge(model, settings.seed)
    for name, parameter in model.named_parameters():
        if not parameter.isfinite().all():
            raise TrainingDiverged(f"training diverged: after the last step {name} is not finite")
    history = [entry for entry in trainer.state.log_history if "loss" in entry]
    end = history[-max(1, len(history) // 10) :]  # one step's margin is mostly noise
    kept = {k: statistics.mean(float(entry[k]) for entry in end) for k in (end[0] if end else ()) if k != "epoch"}
    loss = statistics.fmean(entry["loss"] for entry in history)  # the trainer's own leaves out steps before a kill
    curve = tuple(_training_step(entry) for entry in history)
    return TrainingResult(model, output.global_step, loss, checkpoints.seconds, kept, curve, adapter=adapter)


def without_autocast(model: Any) -> Any:
    """The model with its own forward pass: accelerate leaves autocast on a model that it trained in mixed precision.

    Scores would be bfloat16's then. (accelerate's `keep_fp32_wrapper=False` takes transformers' own wrappers off too.)
    """
    if "_original_forward" in model.__dict__:
        model.forward = model.__dict__.pop("_original_forward")
    return model


def _training_step(entry: dict[str, Any]) -> TrainingStep:
    """A training step from an entry of the trainer's log."""
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
