"""Low-rank adapters (LoRA, arXiv 2106.09685), by peft's names: configured, checked, kept and merged."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel
from peft.tuners.lora import LoraLayer
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

from policies import PolicyError, first_line
from policies.encoding import load_model_config
from policies.learner.rounded_adamw import rounded

ALL_LINEAR = "all-linear"
MOVES_THE_BASE = ("pissa", "olora")
"""Initialisations that take out of the weights what they put into the adapter."""
INITIAL = "initial_adapter"


def lora_config(
    rank: int,
    alpha: int,
    *,
    dropout: float = 0.0,
    targets: str | Sequence[str] = ALL_LINEAR,
    rslora: bool = False,
    init: str = "default",
    frozen: Sequence[str] = (),
) -> LoraConfig:
    """peft's configuration: adapters on the targets, or every linear layer but the output, that are not frozen."""
    begins: Any = True if init == "default" else init
    excluded = "|".join(re.escape(pattern) for pattern in frozen)
    return LoraConfig(
        r=rank,
        lora_alpha=alpha,
        lora_dropout=dropout,
        target_modules=targets if isinstance(targets, str) else list(targets),
        use_rslora=rslora,
        init_lora_weights=begins,
        exclude_modules=f".*(?:{excluded}).*" if excluded else None,
    )


def check_targets(model: Any, targets: str | Sequence[str], frozen: Sequence[str], key: str) -> None:
    """Raise PolicyError, naming the configuration's key, where targets match no linear layer that may be trained."""
    if targets == ALL_LINEAR:
        return
    layers = {name: module for name, module in model.named_modules() if name}
    linear = {name for name, module in layers.items() if isinstance(module, torch.nn.Linear)}
    head = model.get_output_embeddings()
    for target in [targets] if isinstance(targets, str) else targets:
        matched = {name for name in layers if _matches(name, target, is_regex=isinstance(targets, str))}
        if not matched & linear:
            known = ", ".join(sorted({name.rpartition(".")[2] for name in linear}))
            raise PolicyError(f"{key}: {target!r} matches no linear layer of this model; its linear layers: {known}")
        if other := sorted(matched - linear):
            raise PolicyError(f"{key}: {target!r} matches {other[0]!r}, which is no linear layer; name it more closely")
        if any(layers[name] is head for name in matched):
            raise PolicyError(f"{key}: {target!r} is the output layer, whose adapter would never be trained")
        if all(any(pattern in name for pattern in frozen) for name in matched):
            raise PolicyError(f"{key}: all that {target!r} matches is frozen")


def _matches(name: str, target: str, *, is_regex: bool) -> bool:
    """As peft does it: a text is a regular expression of the whole name, a list has ends of names."""
    return bool(re.fullmatch(target, name)) if is_regex else name == target or name.endswith(f".{target}")


def without_weights(directory: str, *, trust_remote_code: bool = False) -> Any:
    """A model with its layers and their names, and no memory for weights."""
    config = load_model_config(directory, trust_remote_code)
    loader: Any = AutoModelForImageTextToText if hasattr(config, "vision_config") else AutoModelForCausalLM
    with torch.device("meta"):
        return loader.from_config(config, trust_remote_code=trust_remote_code)


def load_adapter(model: Any, directory: Path) -> PeftModel:
    """A model with an adapter that `save_adapter` wrote, to be trained on.

    Raises PolicyError if it cannot be read, or is for a model of other layers.
    """
    try:
        return PeftModel.from_pretrained(model, str(directory), is_trainable=True)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise PolicyError(f"{directory}: its adapter cannot be loaded ({first_line(error)}); restore it") from error


def begin_adapter(model: Any, init: str, dropout: float, work_dir: Path) -> None:
    """Before the first step: DPO and GRPO switch every dropout off, and the adapter's own is wanted.

    The adapter as it begins is kept where it was taken out of the weights: what was learned is the difference.
    """
    if not isinstance(model, PeftModel):
        return
    for layer in _adapted(model):
        for module in layer.lora_dropout.values():
            if isinstance(module, torch.nn.Dropout):
                module.p = dropout
    if init.startswith(MOVES_THE_BASE):
        model.peft_config["default"].init_lora_weights = True  # as peft wants it for the conversion at the end
        model.save_pretrained(str(work_dir / INITIAL), save_embedding_layers=False)


def save_adapter(model: PeftModel, init: str, directory: Path) -> None:
    """Write the adapter as one for the weights that the training began with."""
    initial = str(directory.parent / INITIAL) if init.startswith(MOVES_THE_BASE) else None
    # Not "auto", which asks a hub whether the embeddings are those of the base model.
    model.save_pretrained(
        str(directory),
        save_embedding_layers=False,
        path_initial_model_for_weight_conversion=initial,
        selected_adapters=["default"],  # TRL adds a copy of one that goes on, as reference
    )


def merge(model: PeftModel, seed: int) -> Any:
    """The model with the adapter in its weights.

    Into bfloat16 weights it is rounded stochastically: to the nearest, most of a gentle update would be lost.
    """
    if all(layer.weight.dtype != torch.bfloat16 for layer in _adapted(model)):
        return model.merge_and_unload()
    generators: dict[torch.device, torch.Generator] = {}
    with torch.no_grad():
        for layer in _adapted(model):
            weight = layer.weight
            if weight.device not in generators:
                generators[weight.device] = torch.Generator(weight.device).manual_seed(seed)
            merged = weight.float() + layer.get_delta_weight("default").float()
            weight.copy_(rounded(merged, weight.dtype, generators[weight.device]))
    return model.unload()


def _adapted(model: PeftModel) -> Iterable[Any]:
    return [module for module in model.modules() if isinstance(module, LoraLayer)]
