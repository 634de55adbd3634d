"""Configuration tables of the learner: settings of every training, and of the learner on this machine."""

import re
from typing import Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from loop.config.table import ConfigTable
from policies.learner.optimizer_names import OPTIMIZERS, ROUNDED

LORA_INITS = r"^(default|gaussian|orthogonal|olora|pissa|pissa_niter_[1-9]\d*)$"
"""peft's initialisations of adapters that need no data."""

MOVES_THE_BASE = ("pissa", "olora")
"""Initialisations that change the base's weights, which bfloat16 cannot represent."""


class TrainingConfig(ConfigTable):
    """The optimizer's settings, shared by `[cold_start]`, `[rft]`, `[update]` and `[grpo]`."""

    learning_rate: PositiveFloat
    epochs: PositiveFloat = 1.0
    batch_size: PositiveInt = 32
    accumulation: PositiveInt = 1
    scheduler: Literal["cosine", "linear", "constant", "constant_with_warmup"] = "cosine"
    warmup_ratio: float = Field(0.03, ge=0.0, lt=1.0)
    weight_decay: float = Field(0.0, ge=0.0)
    max_grad_norm: PositiveFloat = 1.0
    mixed_precision: Literal["no", "bf16"] = "no"
    gradient_checkpointing: bool = False
    frozen: list[str] = []
    lora_rank: int = Field(0, ge=0)
    lora_alpha: PositiveInt = 32
    lora_dropout: float = Field(0.0, ge=0.0, lt=1.0)
    lora_targets: str | list[str] = "all-linear"
    lora_rslora: bool = False
    lora_init: str = Field("default", pattern=LORA_INITS)
    lora_continue: bool = False

    @model_validator(mode="after")
    def _adapter_fits(self) -> "TrainingConfig":
        if self.lora_targets == []:
            raise ValueError("lora_targets is empty; name layers, or take 'all-linear'")
        if isinstance(self.lora_targets, str):
            try:
                re.compile(self.lora_targets)
            except re.error as error:
                raise ValueError(f"lora_targets = {self.lora_targets!r} is no regular expression: {error}") from error
        if self.lora_continue and not self.lora_rank:
            raise ValueError("lora_continue = true goes on with an adapter, which lora_rank > 0 makes")
        if self.lora_continue and self.lora_init.startswith(MOVES_THE_BASE):
            raise ValueError(
                f"lora_init = {self.lora_init!r} changes the weights under the adapter, and lora_continue = true keeps"
                " them; take lora_init = 'default'"
            )
        if self.lora_init == "orthogonal" and self.lora_rank % 2:
            raise ValueError("lora_init = 'orthogonal' needs an even lora_rank")
        return self


class LearnerConfig(ConfigTable):
    """`[learner]`: how the learner works on this machine; what is learned stays the same."""

    reference: Literal["start", "sampler"] = "start"
    dtype: Literal["float32", "bfloat16"] = "float32"
    optimizer: str = "adamw_torch_fused"
    checkpoint_minutes: float = Field(10.0, ge=0.0)
    workers: PositiveInt = 1
    strategy: Literal["ddp", "fsdp2"] = "ddp"

    @model_validator(mode="after")
    def _optimizer_moves_weights(self) -> "LearnerConfig":
        if self.optimizer not in OPTIMIZERS:
            raise ValueError(f"optimizer: {self.optimizer!r} is unknown; known: {', '.join(sorted(OPTIMIZERS))}")
        if self.dtype == "bfloat16" and self.optimizer not in ROUNDED:
            raise ValueError(
                f"dtype = 'bfloat16' needs optimizer = 'adamw_torch', which rounds stochastically; {self.optimizer!r}"
                " would lose what is smaller than a bfloat16 weight can hold"
            )
        return self
