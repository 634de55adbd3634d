"""GRPO: group relative policy optimization (Shao et al., arXiv 2402.03300), with the losses of TRL's GRPOTrainer."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from transformers import Trainer

from policies.encoding import Encoder
from policies.learner.base import Algorithm, TrainingSettings, logprobs_at_start
from policies.learner.callbacks import Progress
from policies.learner.distributed import SameBatches, processes, total
from policies.learner.items import GrpoItem
from policies.verifier import ScoredChain

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", message="TRL currently supports vLLM")  # nothing here generates with it
    from trl import GRPOConfig, GRPOTrainer

LOSSES: dict[str, dict[str, str]] = {
    "dapo": {"loss_type": "dapo"},
    "grpo": {"loss_type": "grpo"},
    "dr_grpo": {"loss_type": "dr_grpo"},
    "gspo": {"loss_type": "grpo", "importance_sampling_level": "sequence"},
    "cispo": {"loss_type": "cispo"},
}
"""Our names -> TRL's: DAPO (arXiv 2503.14476), Dr. GRPO (2503.20783), GSPO (2507.18071), CISPO (2506.13585)."""

PER_TOKEN = ("dapo", "cispo")
"""Losses that divide by the tokens of an optimizer step; the others average over its completions."""

OUTSIDE = -1e4
"""Reference log-probability outside the loss: there exp(reference - policy) must not overflow."""


class _CompletionTrainer(SameBatches, GRPOTrainer):  # type: ignore[misc]
    """GRPOTrainer on completions that exist: nothing is generated or rewarded, and a row is one completion."""

    _prepare_inputs = Trainer._prepare_inputs

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: Any) -> Any:
        """The batches of an optimizer step, each with what the whole step has: only here is that known."""
        batches, number = super().get_batch_samples(epoch_iterator, num_batches, device)
        tokens = total(torch.stack([batch["tool_mask"].sum() for batch in batches]).sum())
        rows = total(torch.tensor(sum(len(batch["tool_mask"]) for batch in batches), device=device))
        for batch in batches:
            # TRL multiplies by len(batches) / steps_per_generation, as if these were the tokens of a generation.
            batch["num_items_in_batch"] = tokens * self.args.steps_per_generation / len(batches)
            # TRL takes the mean of each batch, then of the batches: a short last one would count too much.
            batch["row_share"] = len(batch["tool_mask"]) * len(batches) * processes() / rows
        return batches, number

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> torch.Tensor:
        share: torch.Tensor = inputs.pop("row_share")
        loss: torch.Tensor = super()._compute_loss(model, inputs)
        return loss if self.loss_type in PER_TOKEN else loss * share


@dataclass(frozen=True)
class Grpo(Algorithm):
    """Raise completions with a positive advantage, lower those with a negative one, within a clipped ratio.

    The ratio is of each token's probability to the one before the first step, which the model itself gives: with
    dozens of optimizer steps in one pass it does not stay 1. `clip_high` None is 0.28 (clip-higher, DAPO); of `cispo`,
    where it is the most that a ratio counts, 5. `beta` weighs the KL divergence (k3, arXiv 2402.03300) from the items'
    `reference`, or from the model as it comes where they have none. `max_tokens` divides the sums of `dr_grpo`.
    Probabilities are at temperature 1, whatever the completions were sampled at.
    """

    loss: str = "dapo"
    clip: float = 0.2
    clip_high: float | None = None
    beta: float = 0.0
    max_tokens: int = 256

    config_class = GRPOConfig

    def scores(self) -> tuple[str, ...]:
        """Log-probabilities before the first step, and the reference's."""
        return ("old", "reference")

    def score(
        self, model: Any, encoder: Encoder, items: Sequence[GrpoItem], settings: TrainingSettings, progress: Progress
    ) -> list[GrpoItem]:
        """Completions with their log-probabilities before the first step; the reference's too where none is given."""
        old: Sequence[Sequence[float]] = [item.old for item in items]
        if not all(old):
            chains = [ScoredChain(item.prompt, item.completion) for item in items]
            old = logprobs_at_start(model, encoder, chains, settings, progress)
        return [
            replace(item, old=tuple(own), reference=item.reference or tuple(own))
            for item, own in zip(items, old, strict=True)
        ]

    def trainer(self, **common: Any) -> GRPOTrainer:
        """TRL's trainer, its generation taken out."""
        collate = common.pop("data_collator")
        trainer = _CompletionTrainer(reward_funcs=_no_rewards, **common)
        trainer.data_collator = collate
        # Not in the arguments: there it makes TRL load the model again from disk, as reference.
        trainer.beta = self.beta
        return trainer

    def arguments(self) -> dict[str, Any]:
        """The loss by TRL's names. Groups are formed already: the figures of generation only satisfy TRL's checks."""
        high = self.clip_high
        if high is None:
            high = 5.0 if self.loss == "cispo" else 0.28
        return {
            **LOSSES[self.loss],
            "epsilon": self.clip,
            "epsilon_high": high,
            "max_completion_length": self.max_tokens,
            "num_generations": 2,
            "steps_per_generation": 2,
        }

    def batch(self, encoder: Encoder, items: Sequence[GrpoItem]) -> dict[str, Any]:
        """TRL's tensors: prompts and completions apart, split where the shortest prompt ends.

        What is left of a longer prompt lies among the completions; `tool_mask` takes it out of the loss, as it does
        with what a tool wrote.
        """
        batch: dict[str, Any] = encoder.batch([i.prompt for i in items], [i.completion for i in items])
        ids, kept, own = (batch.pop(key) for key in ("input_ids", "attention_mask", "completion_mask"))
        cut = int((kept.sum(1) - own.sum(1)).min())
        batch |= {
            "prompt_ids": ids[:, :cut],
            "prompt_mask": kept[:, :cut],
            "completion_ids": ids[:, cut:],
            "completion_mask": kept[:, cut:],
            "tool_mask": own[:, cut:],
            "old_per_token_logps": _spread([i.old for i in items], own, 0.0)[:, cut:],
            "advantages": torch.tensor([i.advantage for i in items]),
            "num_images": [len(i.prompt.images) for i in items],
        }
        if self.beta:
            batch["ref_per_token_logps"] = _spread([i.reference for i in items], own, OUTSIDE)[:, cut:]
        return batch

    def length(self, item: GrpoItem) -> int:
        """Tokens of the completion."""
        return len(item.completion)


def _no_rewards(**_: Any) -> list[float]:
    """TRL wants a reward function; it is never asked."""
    return []


def _spread(values: Sequence[Sequence[float]], own: torch.Tensor, outside: float) -> torch.Tensor:
    """Values of each row's completion tokens at their places in a batch."""
    spread = torch.full(own.shape, outside)
    spread[own.bool()] = torch.tensor([value for row in values for value in row])
    return spread
