"""The shape of a model, from its configuration alone: no weight is read."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from policies import PolicyError, first_line
from policies.encoding import load_model_config
from policies.shared_prefix import can_share

VISION = ("vision", "visual")
"""Parts of the names under which transformers keeps a vision tower."""


@dataclass(frozen=True)
class Tower:
    """Equal transformer layers. `attention` is the width of all query heads together, `keys` that of the key heads."""

    layers: int
    hidden: int
    attention: int
    keys: int
    mlp: int
    gated: bool
    """Whether the MLP has a gate beside its first layer (SwiGLU), which keeps four tensors in place of two."""
    rms_norm: bool
    norms: int = 2
    """Norms of the hidden width in a layer."""
    head_norm: bool = False
    """Whether queries and keys are normalised (Qwen3)."""


@dataclass(frozen=True)
class ModelShape:
    """The sizes that memory depends on. `parameters` have name and count, `linear` layers name, inputs and outputs."""

    parameters: tuple[tuple[str, int], ...]
    linear: tuple[tuple[str, int, int], ...]
    vocabulary: int
    tied: bool
    """Whether the output layer is the embedding."""
    text: Tower
    vision: Tower | None = None
    patch_values: int = 0
    """Numbers of an image in one patch."""
    shares_prefixes: bool = False
    """Whether a pair's common beginning is computed once (`policies/shared_prefix.py`)."""

    @property
    def count(self) -> int:
        """Parameters in all."""
        return sum(count for _, count in self.parameters)

    @property
    def head(self) -> int:
        """Parameters of the output layer."""
        return self.vocabulary * self.text.hidden

    def trainable(self, frozen: Sequence[str], lora_rank: int) -> int:
        """Parameters that an update changes: all that are not frozen, or the adapters on linear layers that are not."""
        if lora_rank:
            return sum(
                lora_rank * (inputs + outputs)
                for name, inputs, outputs in self.linear
                if not any(pattern in name for pattern in frozen)
            )
        return sum(count for name, count in self.parameters if not any(pattern in name for pattern in frozen))


def read_shape(model: str, *, trust_remote_code: bool = False) -> ModelShape:
    """The shape of a model directory or hub id, made on PyTorch's meta device: exact counts, no memory, under a second.

    Raises PolicyError if its configuration cannot be read, or is of no model made of equal transformer layers.
    """
    config = load_model_config(model, trust_remote_code)
    try:
        return shape_of(config, trust_remote_code=trust_remote_code)
    except (
        ValueError,
        ImportError,
        AttributeError,
    ) as error:  # not a transformer, or one that transformers cannot build
        raise PolicyError(f"{model}: its memory cannot be planned ({first_line(error)})") from error


def shape_of(config: Any, *, trust_remote_code: bool = False) -> ModelShape:
    """The shape of a model by its transformers configuration."""
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

    loader: Any = AutoModelForImageTextToText if hasattr(config, "vision_config") else AutoModelForCausalLM
    with torch.device("meta"):
        model = loader.from_config(config, trust_remote_code=trust_remote_code)
    head = model.get_output_embeddings()
    linear = tuple(
        (name, module.in_features, module.out_features)
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and module is not head
    )
    return ModelShape(
        parameters=tuple((name, parameter.numel()) for name, parameter in model.named_parameters()),
        linear=linear,
        vocabulary=head.weight.shape[0],
        tied=head.weight is model.get_input_embeddings().weight,
        text=_text_tower(config.get_text_config(), model),
        vision=_vision_tower(model) if hasattr(config, "vision_config") else None,
        patch_values=_patch_values(model),
        shares_prefixes=can_share(model.config),
    )


def _text_tower(text: Any, model: Any) -> Tower:
    heads = text.num_attention_heads
    width = getattr(text, "head_dim", None) or text.hidden_size // heads
    parts = [(name, module) for name, module in model.named_modules() if not _in_vision(name)]
    names = [name for name, _ in parts]
    norms = [module for _, module in parts if "Norm" in type(module).__name__]
    own_width = sum(module.weight.shape[0] == text.hidden_size for module in norms)
    mlp = getattr(text, "moe_intermediate_size", None)
    experts = getattr(text, "num_experts_per_tok", None) or 1
    return Tower(
        layers=text.num_hidden_layers,
        hidden=text.hidden_size,
        attention=heads * width,
        keys=(getattr(text, "num_key_value_heads", None) or heads) * width,
        mlp=mlp * experts if mlp else getattr(text, "intermediate_size", None) or 4 * text.hidden_size,
        gated=any(name.endswith(("gate_proj", "gate_up_proj")) for name in names),
        rms_norm=any("RMSNorm" in type(module).__name__ for module in norms),
        norms=max(1, own_width // text.num_hidden_layers),
        head_norm=any(name.endswith("q_norm") for name in names),
    )


def _vision_tower(model: Any) -> Tower | None:
    """The longest list of layers under a vision part; its widths are those of its first layer."""
    lists = [m for name, m in model.named_modules() if _in_vision(name) and isinstance(m, torch.nn.ModuleList)]
    if not lists:
        return None
    layers = max(lists, key=len)
    first = list(layers[0].modules())
    norms = [m for m in first if "Norm" in type(m).__name__]
    linear = [m for m in first if isinstance(m, torch.nn.Linear)]
    if not norms or not linear:
        return None
    hidden = norms[0].weight.shape[0]
    mlp = max(m.in_features for m in linear)
    return Tower(
        layers=len(layers),
        hidden=hidden,
        attention=hidden,
        keys=hidden,
        mlp=mlp,
        gated=sum(m.out_features == mlp for m in linear) == 2,
        rms_norm="RMS" in type(norms[0]).__name__,
    )


def _patch_values(model: Any) -> int:
    """Inputs of the convolution (or the linear layer) that makes patches of an image; 0 without one."""
    for name, module in model.named_modules():
        if _in_vision(name) and isinstance(module, torch.nn.Conv2d | torch.nn.Conv3d):
            return int(module.weight[0].numel())
    return 0


def _in_vision(name: str) -> bool:
    return any(_is_vision(part) for part in name.split("."))


def _is_vision(part: str) -> bool:
    return any(word in part for word in VISION)
