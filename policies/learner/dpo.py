"""DPO: direct preference optimization (Rafailov et al., arXiv 2305.18290), with TRL's DPOTrainer."""

import copy
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from trl import DPOConfig, DPOTrainer

from policies.encoding import Encoder
from policies.learner.base import Algorithm, TrainingSettings, logprobs_at_start
from policies.learner.callbacks import Progress
from policies.learner.distributed import SameBatches, share_of_mean
from policies.learner.items import PairItem
from policies.shared_prefix import shared_prefixes
from policies.verifier import ScoredChain

TRIAL_PAIRS = 8
"""Pairs that a training tries first, with their common beginning computed once and twice."""


class _PairTrainer(SameBatches, DPOTrainer):  # type: ignore[misc]
    """DPOTrainer whose rows are already token ids, with the reference's log-probabilities: nothing to prepare."""

    loss_weights: list[float]

    def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
        return dataset

    def _precompute_ref_logps(self, dataset: Any, *_: Any, **__: Any) -> Any:
        return dataset

    def _compute_loss(self, model: Any, inputs: dict[str, Any], return_outputs: bool = False) -> Any:
        """TRL takes means over one process's pairs, of `sft` over its tokens: weigh them by how many it has."""
        weights, chosen = self.loss_weights, inputs["completion_mask"].chunk(2)[0]
        tokens, pairs = share_of_mean(chosen.sum()), share_of_mean(torch.tensor(len(chosen), device=chosen.device))
        self.loss_weights = [
            weight * (tokens if name == "sft" else pairs) for name, weight in zip(self.loss_types, weights, strict=True)
        ]
        try:
            return super()._compute_loss(model, inputs, return_outputs)
        finally:
            self.loss_weights = weights


@dataclass(frozen=True)
class Dpo(Algorithm):
    """Prefer the chosen completions of `PairItem`s, on the sampler's own token ids.

    `losses` are TRL's by name (`sigmoid`, `sft`, `ipo`, ...) with their weights. The model as it comes is the reference
    of the items that have none: one pass before the first step, so that no second model is needed. With `ema_steps`
    the reference is a second model that follows the policy: every `ema_steps` steps it becomes `ema_mixup` * policy +
    (1 - `ema_mixup`) * reference (TR-DPO, arXiv 2404.09656).
    """

    losses: dict[str, float] = field(default_factory=lambda: {"sigmoid": 1.0})
    beta: float = 0.1
    label_smoothing: float = 0.0
    ema_steps: int | None = None
    ema_mixup: float = 0.6

    config_class = DPOConfig

    def scores(self) -> tuple[str, ...]:
        """The reference's sums, unless the reference moves."""
        return ("reference",) if self.ema_steps is None else ()

    def score(
        self, model: Any, encoder: Encoder, items: Sequence[PairItem], settings: TrainingSettings, progress: Progress
    ) -> list[PairItem]:
        """The pairs, those without a reference scored by the model."""
        unknown = [item for item in items if item.reference is None]
        chains = [ScoredChain(item.prompt, side) for item in unknown for side in (item.chosen, item.rejected)]
        sums = iter([sum(tokens) for tokens in logprobs_at_start(model, encoder, chains, settings, progress, 2)])
        return [replace(item, reference=(next(sums), next(sums))) if item.reference is None else item for item in items]

    def computing(self, model: Any, encoder: Encoder, items: Sequence[PairItem]) -> AbstractContextManager[object]:
        """Prompts, images and all that both sides begin with are computed once."""
        some = items[:TRIAL_PAIRS]
        trial = encoder.batch([i.prompt for i in some], [i.chosen for i in some], [i.rejected for i in some])
        del trial["completion_mask"]
        return shared_prefixes(model, {name: value.to(model.device) for name, value in trial.items()})

    def trainer(self, **common: Any) -> DPOTrainer:
        """TRL's DPOTrainer; only a reference that moves is a model."""
        moving = None if self.ema_steps is None else copy.deepcopy(common["model"])
        return _PairTrainer(ref_model=moving, **common)

    def arguments(self) -> dict[str, Any]:
        """Losses, beta and the reference's schedule; nothing is truncated: that would cut image tokens."""
        return {
            "beta": self.beta,
            "loss_type": list(self.losses),
            "loss_weights": list(self.losses.values()),
            "label_smoothing": self.label_smoothing,
            "precompute_ref_log_probs": self.ema_steps is None,
            "sync_ref_model": self.ema_steps is not None,
            "ref_model_sync_steps": self.ema_steps or 1,
            "ref_model_mixup_alpha": self.ema_mixup,
            "max_length": None,
        }

    def batch(self, encoder: Encoder, items: Sequence[PairItem]) -> dict[str, torch.Tensor]:
        """Prompts with chosen, then with rejected completions; the reference's sums for both."""
        batch = encoder.batch(
            [item.prompt for item in items], [item.chosen for item in items], [item.rejected for item in items]
        )
        if self.ema_steps is None:
            known = torch.tensor([item.reference for item in items])
            batch |= {"ref_chosen_logps": known[:, 0], "ref_rejected_logps": known[:, 1]}
        return batch

    def length(self, item: PairItem) -> int:
        """Tokens of the longer side."""
        return max(len(item.chosen), len(item.rejected))

    def remarks(self, steps: int) -> tuple[str, ...]:
        """Whether the reference was to follow the policy and never did."""
        if self.ema_steps is None or steps >= self.ema_steps:
            return ()
        return (f"update.reference = 'ema' never moved: {steps} steps, and update.ema_steps = {self.ema_steps}",)
