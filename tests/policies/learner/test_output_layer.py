"""Small tiles of the output layer, of labelled positions only, give the losses of TRL's own tiles of all positions."""

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
import trl.kernels.chunked_logprob as kernel
import trl.trainer.utils as caller

from policies.encoding import Encoder, Prompt
from policies.learner import base, output_layer
from policies.learner.base import Algorithm, TrainingSettings
from policies.learner.dpo import Dpo
from policies.learner.items import PairItem, SftItem
from policies.learner.learner import LocalLearner
from policies.learner.output_layer import small_tiles
from policies.learner.sft import Sft

pytestmark = pytest.mark.heavy

SETTINGS = TrainingSettings(learning_rate=1e-3, epochs=2, batch_size=4, seed=0)
TEXTS = ("teal", "a red circle", "no, it is blue", "gray triangle there", "yes")


@pytest.fixture
def encoder(text_model: Path) -> Encoder:
    return Encoder(str(text_model), lambda _: pytest.fail("no images"))


def items(encoder: Encoder, algorithm: Algorithm) -> list[Any]:
    prompts = [Prompt("What is there?" + " Look again." * n, ()) for n in range(3)]
    ids = [tuple(encoder.completion_ids(text)) for text in TEXTS]
    if isinstance(algorithm, Sft):
        return [SftItem(prompts[n % 3], ids[n % 5]) for n in range(10)]
    return [PairItem(prompts[n % 3], ids[n % 5], ids[(n + 1) % 5]) for n in range(10)]


def curve(model: Path, encoder: Encoder, algorithm: Algorithm, folder: Path) -> Sequence[float]:
    learner = LocalLearner(encoder)
    own = items(encoder, algorithm)
    result = learner.train(algorithm, learner.load(model), own, SETTINGS, folder, lambda *_: None)
    return [step.loss for step in result.curve]


@pytest.mark.parametrize("algorithm", [Sft(), Dpo(losses={"sigmoid": 1.0, "sft": 0.2})], ids=["sft", "dpo"])
@pytest.mark.parametrize("tile", [(512, 4096), (3, 50)])
def test_losses_are_those_of_whole_tiles(
    text_model: Path,
    encoder: Encoder,
    algorithm: Algorithm,
    tile: tuple[int, int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(output_layer, "TILE_TOKENS", tile[0])
    monkeypatch.setattr(output_layer, "TILE_WORDS", tile[1])
    found = curve(text_model, encoder, algorithm, tmp_path / "small")
    monkeypatch.setattr(base, "small_tiles", lambda _: nullcontext())
    expected = curve(text_model, encoder, algorithm, tmp_path / "whole")
    assert found == pytest.approx(expected, rel=1e-5, abs=2e-5)
    assert len(set(expected)) > 1


def test_only_labelled_positions_are_computed(
    text_model: Path, encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    positions = 0
    forward = kernel.ChunkedLogProbFunction.forward

    def counted(ctx: Any, hidden: torch.Tensor, *rest: Any) -> Any:
        nonlocal positions
        positions += len(hidden)
        return forward(ctx, hidden, *rest)

    monkeypatch.setattr(kernel.ChunkedLogProbFunction, "forward", counted)
    curve(text_model, encoder, Sft(), tmp_path)
    assert positions == SETTINGS.epochs * sum(len(item.completion) for item in items(encoder, Sft()))


def test_trl_is_as_before_after_a_training_that_failed(text_model: Path, encoder: Encoder) -> None:
    def state() -> tuple[object, ...]:
        return kernel.TOKEN_CHUNK_SIZE, caller._CHUNKED_LOGPROB_CHUNK_SIZE, caller._use_triton

    def fail() -> None:
        with small_tiles(LocalLearner(encoder).load(text_model)):
            assert state() != before
            raise ZeroDivisionError

    before = state()
    with pytest.raises(ZeroDivisionError):
        fail()
    assert state() == before
