"""SFT: supervised fine-tuning on completions, with TRL's SFTTrainer."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from trl import SFTConfig, SFTTrainer

from policies.encoding import Encoder
from policies.learner.base import Algorithm
from policies.learner.distributed import SameBatches
from policies.learner.items import SftItem


class _CompletionTrainer(SameBatches, SFTTrainer):  # type: ignore[misc]
    """SFTTrainer with the batches of one process, however many train."""


@dataclass(frozen=True)
class Sft(Algorithm):
    """Imitate the completions of `SftItem`s; the loss covers completions only."""

    config_class = SFTConfig

    def trainer(self, **common: Any) -> SFTTrainer:
        """TRL's SFTTrainer."""
        return _CompletionTrainer(**common)

    def arguments(self) -> dict[str, Any]:
        """Rows are prepared already, and nothing is truncated: that would cut image tokens."""
        return {"max_length": None, "dataset_kwargs": {"skip_prepare_dataset": True}}

    def batch(self, encoder: Encoder, items: Sequence[SftItem]) -> dict[str, torch.Tensor]:
        """Prompts with completions, and labels on the completions."""
        batch = encoder.batch([item.prompt for item in items], [item.completion for item in items])
        batch["labels"] = encoder.labels(batch)
        del batch["completion_mask"]
        return batch

    def length(self, item: SftItem) -> int:
        """Tokens of the completion."""
        return len(item.completion)
