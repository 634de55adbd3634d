"""Small tiles of the output layer, of labelled positions only, give the values of TRL's own tiles of all positions."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
import trl.kernels.chunked_logprob as kernel
import trl.trainer.utils as caller
from peft import LoraConfig, get_peft_model

from policies.encoding import Encoder, Prompt
from policies.learner.learner import LocalLearner
from policies.learner.output_layer import small_tiles

pytestmark = pytest.mark.heavy

TEXTS = ("teal", "a red circle", "no, it is blue", "gray triangle there", "yes")
TILES = [(512, 4096), (3, 50)]


@pytest.fixture
def batch(text_model: Path) -> dict[str, torch.Tensor]:
    """Five answers to questions of three lengths; the last row has no label."""
    encoder = Encoder(str(text_model), lambda _: pytest.fail("no images"))
    prompts = [Prompt("What is there?" + " Look again." * (n % 3), ()) for n in range(5)]
    found = encoder.batch(prompts, [tuple(encoder.completion_ids(text)) for text in TEXTS])
    labels = encoder.labels(found)
    del found["completion_mask"]
    labels[-1] = -100
    return {**found, "labels": labels}


def fused(model: Path, lora: bool) -> Any:
    loaded = LocalLearner(Encoder(str(model), lambda _: pytest.fail("no images"))).load(model)
    caller.add_fused_lm_head(loaded)
    torch.manual_seed(0)
    return get_peft_model(loaded, LoraConfig(r=4, target_modules="all-linear")) if lora else loaded


def computed(model: Any, batch: dict[str, torch.Tensor], tiles: AbstractContextManager[None]) -> Iterator[torch.Tensor]:
    """Log-probabilities, then the gradients of the trained weights."""
    with tiles:
        found = model(**batch, fused_lm_head=True)
        found.loss.backward()
    yield found.log_probs.detach()
    for parameter in model.parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None
            yield parameter.grad.clone()
    model.zero_grad()


@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize(("lora", "autocast"), [(False, False), (True, False), (False, True)])
def test_values_and_gradients_are_those_of_whole_tiles(
    text_model: Path, batch: dict[str, torch.Tensor], lora: bool, autocast: bool, tile: tuple[int, int]
) -> None:
    model = fused(text_model, lora)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        expected = list(computed(model, batch, nullcontext()))
        found = list(computed(model, batch, small_tiles("cpu", model.config.vocab_size, *tile)))
    for one, other in zip(found, expected, strict=True):
        close = 2e-2 if autocast else 1e-5
        assert (one - other).abs().max() <= close * max(1e-3, float(other.abs().max()))
    assert any(part.any() for part in expected[1:])


def test_only_labelled_positions_are_computed(text_model: Path, batch: dict[str, torch.Tensor]) -> None:
    model, shapes = fused(text_model, False), list[torch.Size]()

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        shapes.append(tensor.shape)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), small_tiles("cpu", 540):
        model(**batch, fused_lm_head=True)
    rows, length = batch["labels"].shape
    hidden = model.config.hidden_size
    assert torch.Size([int((batch["labels"] != -100).sum()), hidden]) in shapes
    assert torch.Size([rows * (length - 1), hidden]) not in shapes


def test_trl_is_as_before_after_a_training_that_failed() -> None:
    def state() -> tuple[object, ...]:
        return kernel.TOKEN_CHUNK_SIZE, caller._CHUNKED_LOGPROB_CHUNK_SIZE, caller._use_triton

    def fail() -> None:
        with small_tiles("cpu", 540):
            assert state() != before
            raise ZeroDivisionError

    before = state()
    with pytest.raises(ZeroDivisionError):
        fail()
    assert state() == before
    with small_tiles("cuda", 540):
        assert state() == before
