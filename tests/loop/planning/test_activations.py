"""The planned activations are those that autograd keeps, for several families of models."""

import contextlib
from typing import Any

import pytest
import torch
from peft import get_peft_model
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    Gemma3TextConfig,
    LlamaConfig,
    Qwen2Config,
    Qwen3Config,
)

from loop.planning.activations import FULL, Precision, kept
from loop.planning.model_shape import ModelShape, shape_of
from policies.learner.lora import lora_config
from tests.support.command_line import BASE_MODEL

pytestmark = pytest.mark.heavy

ROWS, TOKENS = 3, 61
WIDTHS: dict[str, Any] = {
    "hidden_size": 96,
    "intermediate_size": 272,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "vocab_size": 200,
}
FAMILIES = {
    "llama": LlamaConfig(**WIDTHS),
    "qwen2": Qwen2Config(**WIDTHS),
    "qwen3": Qwen3Config(**WIDTHS),
    "gemma3": Gemma3TextConfig(**WIDTHS),
}


def bytes_kept(model: Any, inputs: dict[str, torch.Tensor], autocast: bool = False) -> int:
    """Bytes that the backbone's forward pass keeps beside the weights and their copies in another type."""
    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    weights = {tuple(parameter.shape) for parameter in model.parameters()}
    found: dict[int, torch.Tensor] = {}  # the tensors themselves: what is freed gives its address to another

    def note(tensor: torch.Tensor) -> torch.Tensor:
        is_copy = tuple(tensor.t().shape if tensor.dim() == 2 else tensor.shape) in weights
        if tensor.untyped_storage().data_ptr() not in own and not (autocast and is_copy):
            found[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    cast = torch.autocast("cpu", torch.bfloat16) if autocast else contextlib.nullcontext()
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor), cast:
        kept_alive = model(**inputs, use_cache=False)
    size = sum(int(tensor.untyped_storage().nbytes()) for tensor in found.values())
    del kept_alive
    return size


def with_adapters(model: Any, rank: int) -> Any:
    return get_peft_model(model, lora_config(rank, 32))


def tokens() -> dict[str, torch.Tensor]:
    mask = torch.ones(ROWS, TOKENS, dtype=torch.long)
    mask[0, -5:] = 0  # a batch is padded, so keys are repeated for every query head
    return {"input_ids": torch.randint(0, 200, (ROWS, TOKENS)), "attention_mask": mask}


def around_layers(shape: ModelShape, precision: Precision) -> int:
    """The last norm and the embeddings, and the mask."""
    return 3 * ROWS * TOKENS * shape.text.hidden * 4 + ROWS * TOKENS**2 * precision.compute


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("rank", [0, 8])
def test_text_layers_keep_what_is_planned(family: str, rank: int) -> None:
    config = FAMILIES[family]
    shape, model = shape_of(config), AutoModelForCausalLM.from_config(config).train()
    if rank:
        model = with_adapters(model, rank).get_base_model()
    measured = bytes_kept(model.model, tokens())
    planned = kept(shape.text, ROWS * TOKENS, FULL, rank) + around_layers(shape, FULL)
    assert planned == pytest.approx(measured, rel=0.1)


def test_autocast_keeps_half_of_the_products() -> None:
    config = FAMILIES["llama"]
    precision = Precision(compute=2)
    measured = bytes_kept(AutoModelForCausalLM.from_config(config).train().model, tokens(), autocast=True)
    planned = kept(shape_of(config).text, ROWS * TOKENS, precision) + around_layers(shape_of(config), precision)
    assert planned == pytest.approx(measured, rel=0.1)


def test_a_vision_tower_keeps_what_is_planned() -> None:
    config = AutoConfig.from_pretrained(BASE_MODEL)
    shape, model = shape_of(config), AutoModelForImageTextToText.from_config(config).train()
    tower = model.model.vision_model
    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    found: dict[int, torch.Tensor] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.untyped_storage().data_ptr() not in own:
            found[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        out = tower(pixel_values=torch.rand(ROWS, 3, 64, 64))
    measured = sum(tensor.untyped_storage().nbytes() for tensor in found.values())
    assert out.last_hidden_state.shape[1] == 64
    assert shape.vision is not None
    planned = kept(shape.vision, ROWS * 64, FULL) + ROWS * 64 * shape.patch_values * 4
    assert planned == pytest.approx(measured, rel=0.1)


def test_parameters_are_counted_exactly() -> None:
    for config in FAMILIES.values():
        model = AutoModelForCausalLM.from_config(config)
        shape = shape_of(config)
        assert shape.count == sum(parameter.numel() for parameter in model.parameters())
        adapted = with_adapters(model, 8)
        trained = sum(parameter.numel() for parameter in adapted.parameters() if parameter.requires_grad)
        assert shape.trainable((), 8) == trained
