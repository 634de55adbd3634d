"""DPO: direct preference optimization (Rafailov et al., arXiv 2305.18290), with TRL's DPOTrainer."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from trl import DPOConfig, DPOTrainer

from policies.encoding import Encoder
from policies.learner.base import Algorithm
from policies.learner.items import PairItem


class _PairTrainer(DPOTrainer):  # type: ignore[misc]
    """DPOTrainer whose rows are already token ids: there is nothing to prepare."""

    def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
        return dataset


@dataclass(frozen=True)
class Dpo(Algorithm):
    """Prefer the chosen completions of `PairItem`s, on the sampler's own token ids.

    `losses` are TRL's by name (`sigmoid`, `sft`, `ipo`, ...) with their weights. Without a `reference` the model as it
    comes is the reference. With `ema_steps` the reference follows the policy: every so many steps it becomes
    `ema_mixup` * policy + (1 - `ema_mixup`) * reference (TR-DPO, arXiv 2404.09656).
    """

    losses: dict[str, float] = field(default_factory=lambda: {"sigmoid": 1.0})
    beta: float = 0.1
    label_smoothing: float = 0.0
    ema_steps: int | None = None
    ema_mixup: float = 0.6
    reference: Any = None

    config_class = DPOConfig

    def trainer(self, **common: Any) -> DPOTrainer:
        """TRL's DPOTrainer; with an adapter the model without it is the reference."""
        reference = self.reference
        if reference is None and common["peft_config"] is None:
            reference = copy.deepcopy(common["model"])
        return _PairTrainer(ref_model=reference, **common)

    def arguments(self) -> dict[str, Any]:
        """Losses, beta and the reference's schedule; nothing is truncated: that would cut image tokens."""
        return {
            "beta": self.beta,
            "loss_type": list(self.losses),
            "loss_weights": list(self.losses.values()),
            "label_smoothing": self.label_smoothing,
            "sync_ref_model": self.ema_steps is not None,
            "ref_model_sync_steps": self.ema_steps or 1,
            "ref_model_mixup_alpha": self.ema_mixup,
            "max_length": None,
        }

    def batch(self, encoder: Encoder, items: Sequence[PairItem]) -> dict[str, torch.Tensor]:
        """Prompts with chosen, then with rejected completions."""
        return encoder.batch(
            [item.prompt for item in items], [item.chosen for item in items], [item.rejected for item in items]
        )

    def length(self, item: PairItem) -> int:
        """Tokens of the longer side."""
        return max(len(item.chosen), len(item.rejected))

    def remarks(self, steps: int) -> tuple[str, ...]:
        """Whether the reference was to follow the policy and never did."""
        if self.ema_steps is None or steps >= self.ema_steps:
            return ()
        return (f"update.reference = 'ema' never moved: {steps} steps, and update.ema_steps = {self.ema_steps}",)
