"""A training that stops goes on from its checkpoint and ends with the same weights, bit for bit."""

import json
import random
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from policies.encoding import Encoder, Prompt
from policies.learner.base import Algorithm, TrainingResult, TrainingSettings
from policies.learner.checkpoints import PREFIX, is_whole, latest_checkpoint
from policies.learner.dpo import Dpo
from policies.learner.grpo import Grpo
from policies.learner.items import GrpoItem, PairItem, SftItem
from policies.learner.learner import LocalLearner
from policies.learner.sft import Sft
from tests.support.command_line import BASE_MODEL

pytestmark = pytest.mark.heavy

SETTINGS = TrainingSettings(
    learning_rate=1e-3, epochs=3, batch_size=2, seed=5, accumulation=2, warmup_ratio=0.4, checkpoint_minutes=1e-9
)
"""Fourteen items: seven batches an epoch, four steps an epoch of which the last is short, twelve in all."""

ALGORITHMS: dict[str, Algorithm] = {
    "sft": Sft(),
    "dpo": Dpo(losses={"sigmoid": 1.0, "sft": 0.2}),
    "ema": Dpo(ema_steps=2),
    "grpo": Grpo(max_tokens=8, beta=0.1),
}
CHANGES: dict[str, dict[str, Any]] = {
    "as it is": {},
    "adapter": {"lora_rank": 2, "lora_dropout": 0.2},
    "adapter out of the weights": {"lora_rank": 2, "lora_init": "pissa_niter_2"},
    "frozen": {"frozen": ("embed_tokens",), "optimizer": "adafactor"},
    "half an epoch": {"epochs": 1.5, "scheduler": "linear"},
}
CASES = [
    *((name, "as it is") for name in ALGORITHMS),
    *(("dpo", change) for change in CHANGES if change != "as it is"),
    ("grpo", "adapter"),
    ("sft", "half an epoch"),
]


class Stop(Exception):
    """As a user's Ctrl-C."""


def picture(digest: str) -> Image.Image:
    return Image.new("RGB", (64, 64), digest)


@pytest.fixture(scope="module")
def encoder(text_model: Path) -> Encoder:
    return Encoder(str(text_model), picture)


def items(encoder: Encoder, algorithm: Algorithm, images: Sequence[tuple[str, ...]] = ((),)) -> list[Any]:
    words = ("teal", "a red circle", "yes", "no, it is blue", "brown", "gray triangle there", "no")
    sides = [tuple(encoder.completion_ids(text)) for text in words]
    prompts = [Prompt(f"What is {n}?", images[n % len(images)]) for n in range(14)]
    if isinstance(algorithm, Sft):
        return [SftItem(prompt, sides[n % 7]) for n, prompt in enumerate(prompts)]
    if isinstance(algorithm, Grpo):
        return [GrpoItem(prompt, sides[n % 7], (-1.0) ** n) for n, prompt in enumerate(prompts)]
    return [PairItem(prompt, sides[n % 7], sides[n // 2 - 1]) for n, prompt in enumerate(prompts)]


def stop_after(step: int | None) -> Callable[..., None]:
    def progress(done: int, total: int, loss: float | None) -> None:
        if loss is not None and done == step:
            raise Stop

    return progress


def train(
    model: Path,
    encoder: Encoder,
    algorithm: Algorithm,
    settings: TrainingSettings,
    folder: Path,
    step: int | None = None,
    dtype: str = "float32",
    images: Sequence[tuple[str, ...]] = ((),),
) -> TrainingResult:
    """Train from the start or a checkpoint, as another process would: with other random numbers before."""
    for seed in (random.seed, np.random.seed, torch.manual_seed):
        seed(random.SystemRandom().randrange(1 << 30))
    learner = LocalLearner(encoder, dtype=dtype)
    made = items(encoder, algorithm, images)
    return learner.train(algorithm, learner.load(model), made, settings, folder, stop_after(step))


def same(found: TrainingResult, expected: TrainingResult) -> bool:
    own = dict(found.model.named_parameters())
    assert found.curve == expected.curve
    figures = [{**result.metrics, "step_time": 0.0} for result in (found, expected)]
    assert (found.steps, found.loss, figures[0]) == (expected.steps, expected.loss, figures[1])
    return all(torch.equal(own[name], value) for name, value in expected.model.named_parameters())


@pytest.mark.parametrize(("name", "change"), CASES)
def test_stopped_and_continued_it_ends_with_the_same_weights(
    text_model: Path, encoder: Encoder, tmp_path: Path, name: str, change: str
) -> None:
    algorithm, settings = ALGORITHMS[name], replace(SETTINGS, **CHANGES[change])
    unbroken = train(text_model, encoder, algorithm, settings, tmp_path / "unbroken")
    steps = (2, 4, 5) if settings.epochs < 3 else (2, 4, 7, 10)  # in the warm-up, between epochs, in later ones
    for step in steps:
        with pytest.raises(Stop):
            train(text_model, encoder, algorithm, settings, tmp_path / "stopped", step)
        assert [place.name for place in (tmp_path / "stopped").glob(f"{PREFIX}*")] == [f"{PREFIX}{step}"]
    again = train(text_model, encoder, algorithm, settings, tmp_path / "stopped")
    assert same(again, unbroken)
    assert again.seconds > 0


def test_so_it_is_with_bfloat16_weights(text_model: Path, encoder: Encoder, tmp_path: Path) -> None:
    settings = replace(SETTINGS, optimizer="adamw_torch", learning_rate=1e-4)
    unbroken = train(text_model, encoder, Dpo(), settings, tmp_path / "unbroken", dtype="bfloat16")
    for step in (3, 8):
        with pytest.raises(Stop):
            train(text_model, encoder, Dpo(), settings, tmp_path / "stopped", step, dtype="bfloat16")
    assert same(train(text_model, encoder, Dpo(), settings, tmp_path / "stopped", dtype="bfloat16"), unbroken)


def test_so_it_is_with_images(tmp_path: Path) -> None:
    encoder = Encoder(str(BASE_MODEL), picture)
    images = ((), ("red",), ("blue", "teal"))
    unbroken = train(BASE_MODEL, encoder, Dpo(), SETTINGS, tmp_path / "unbroken", images=images)
    with pytest.raises(Stop):
        train(BASE_MODEL, encoder, Dpo(), SETTINGS, tmp_path / "stopped", 6, images=images)
    assert same(train(BASE_MODEL, encoder, Dpo(), SETTINGS, tmp_path / "stopped", images=images), unbroken)


def test_a_checkpoint_that_lacks_part_of_a_file_does_not_count(
    text_model: Path, encoder: Encoder, tmp_path: Path
) -> None:
    with pytest.raises(Stop):
        train(text_model, encoder, Sft(), SETTINGS, tmp_path, 3)
    whole = latest_checkpoint(tmp_path)
    assert whole is not None
    for file in [file for file in whole.iterdir() if file.name != "manifest.json"]:
        half = tmp_path / "half"
        shutil.copytree(whole, half)
        (half / file.name).write_bytes(file.read_bytes()[:-1])
        assert not is_whole(half), file.name
        shutil.rmtree(half)
    (whole / "manifest.json").write_text("{")
    assert latest_checkpoint(tmp_path) is None


def test_without_minutes_nothing_is_written(text_model: Path, encoder: Encoder, tmp_path: Path) -> None:
    with pytest.raises(Stop):
        train(text_model, encoder, Dpo(), replace(SETTINGS, checkpoint_minutes=0.0), tmp_path / "work", 3)
    assert not (tmp_path / "work").exists() or not list((tmp_path / "work").iterdir())


def test_the_pass_before_the_first_step_is_not_done_again(text_model: Path, encoder: Encoder, tmp_path: Path) -> None:
    calls: list[tuple[int, float | None]] = []
    with pytest.raises(Stop):
        train(text_model, encoder, Dpo(), SETTINGS, tmp_path, 3)
    assert len(json.loads((tmp_path / "scores.json").read_text())) == 14
    learner = LocalLearner(encoder)
    made = items(encoder, Dpo())
    learner.train(Dpo(), learner.load(text_model), made, SETTINGS, tmp_path, lambda n, _, loss: calls.append((n, loss)))
    assert calls[0][0] == 4
