"""DPO without a second model: a reference computed before the first step gives the losses of one kept in memory."""

import copy
import gc
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
from PIL import Image
from trl import DPOTrainer

from loop.config.update import DPO_LOSSES
from policies.encoding import Encoder, Prompt
from policies.learner.base import TrainingSettings
from policies.learner.dpo import Dpo, _PairTrainer
from policies.learner.items import PairItem
from policies.learner.learner import LocalLearner
from policies.verifier import ScoredChain
from tests.support.command_line import BASE_MODEL

pytestmark = pytest.mark.heavy

SETTINGS = TrainingSettings(learning_rate=1e-3, epochs=2, batch_size=4, seed=0, accumulation=2)
SIDES = (("teal", "red"), ("a red circle", "no"), ("yes", "no, it is blue"), ("brown", "gray triangle there"))


@dataclass(frozen=True)
class WithReferenceModel(Dpo):
    """DPO with a copy of the model as reference beside it, asked in every step; every side is a row of its own."""

    def computing(self, *_: Any) -> AbstractContextManager[object]:
        return nullcontext()

    def scores(self) -> tuple[str, ...]:
        return ()

    def trainer(self, **common: Any) -> DPOTrainer:
        return _PairTrainer(ref_model=copy.deepcopy(common["model"]), **common)

    def arguments(self) -> dict[str, Any]:
        return {**super().arguments(), "precompute_ref_log_probs": False}

    def batch(self, encoder: Encoder, items: Sequence[PairItem]) -> dict[str, torch.Tensor]:
        return encoder.batch([i.prompt for i in items], [i.chosen for i in items], [i.rejected for i in items])


def picture(digest: str) -> Image.Image:
    return Image.new("RGB", (64, 64), digest)


def pairs(encoder: Encoder, images: Sequence[tuple[str, ...]] = ((),)) -> list[PairItem]:
    return [
        PairItem(
            Prompt("What is there?" + " Look again." * (n % 3), images[n % len(images)]),
            tuple(encoder.completion_ids(SIDES[n % 4][n // 4 % 2])),
            tuple(encoder.completion_ids(SIDES[n % 4][1 - n // 4 % 2])),
        )
        for n in range(18)
    ]


def curve(
    model: Path, encoder: Encoder, dpo: Dpo, items: Sequence[PairItem], settings: TrainingSettings
) -> list[float]:
    learner = LocalLearner(encoder)
    with TemporaryDirectory() as folder:
        result = learner.train(dpo, learner.load(model), items, settings, Path(folder), lambda *_: None)
    return [step.loss for step in result.curve]


@pytest.fixture(scope="module")
def text_encoder(text_model: Path) -> Encoder:
    return Encoder(str(text_model), picture)


@pytest.mark.parametrize("losses", [{"sigmoid": 1.0, "sft": 0.2}, *({name: 1.0} for name in sorted(DPO_LOSSES))])
def test_every_loss_is_that_of_a_reference_in_memory(
    text_model: Path, text_encoder: Encoder, losses: dict[str, float]
) -> None:
    options: dict[str, Any] = {"losses": losses, "label_smoothing": 1e-3}
    items = pairs(text_encoder)
    expected = curve(text_model, text_encoder, WithReferenceModel(**options), items, SETTINGS)
    assert curve(text_model, text_encoder, Dpo(**options), items, SETTINGS) == pytest.approx(
        expected, rel=1e-5, abs=2e-5
    )
    assert len(set(expected)) > 1


@pytest.mark.parametrize("losses", [{"sigmoid": 1.0, "sft": 0.2}, {"ipo": 1.0}])
def test_so_it_is_with_images(losses: dict[str, float]) -> None:
    encoder = Encoder(str(BASE_MODEL), picture)
    items = pairs(encoder, ((), ("red",), ("blue", "teal")))
    expected = curve(BASE_MODEL, encoder, WithReferenceModel(losses=losses), items, SETTINGS)
    assert curve(BASE_MODEL, encoder, Dpo(losses=losses), items, SETTINGS) == pytest.approx(
        expected, rel=1e-5, abs=2e-5
    )


def test_with_an_adapter_the_reference_is_the_model_under_it(text_model: Path, text_encoder: Encoder) -> None:
    settings = replace(SETTINGS, lora_rank=4)
    items = pairs(text_encoder)
    found = curve(text_model, text_encoder, Dpo(), items, settings)
    learner = LocalLearner(text_encoder)
    model = learner.load(text_model)
    sides = [ScoredChain(item.prompt, side) for item in items for side in (item.chosen, item.rejected)]
    sums = [sum(tokens) for tokens in learner.token_logprobs(model, sides, sides=2)]
    known = [replace(item, reference=(sums[2 * n], sums[2 * n + 1])) for n, item in enumerate(items)]
    torch.manual_seed(1)
    assert curve(text_model, text_encoder, Dpo(), known, settings) == found


def test_a_known_reference_is_taken_as_it_is(text_model: Path, text_encoder: Encoder) -> None:
    away = [replace(item, reference=(-1.0, -60.0)) for item in pairs(text_encoder)]
    one_batch = replace(SETTINGS, learning_rate=1e-12, epochs=1, batch_size=len(away), accumulation=1)
    found = curve(text_model, text_encoder, Dpo(), away, one_batch)
    learner = LocalLearner(text_encoder)
    model = learner.load(text_model)
    sides = [ScoredChain(item.prompt, side) for item in away for side in (item.chosen, item.rejected)]
    sums = [sum(tokens) for tokens in learner.token_logprobs(model, sides)]
    margins = torch.tensor([0.1 * (sums[2 * n] + 1.0 - sums[2 * n + 1] - 60.0) for n in range(len(away))])
    assert found == [pytest.approx(float(-torch.nn.functional.logsigmoid(margins).mean()), rel=1e-5)]


@pytest.mark.parametrize(("ema_steps", "models"), [(None, 1), (2, 2)])
def test_only_a_moving_reference_is_a_second_model(
    text_model: Path, text_encoder: Encoder, tmp_path: Path, ema_steps: int | None, models: int
) -> None:
    learner, seen = LocalLearner(text_encoder), set[int]()
    model = learner.load(text_model)
    kind = type(model)
    gc.collect()
    before = sum(isinstance(each, kind) for each in gc.get_objects())

    def count(*_: Any) -> None:
        gc.collect()
        seen.add(1 + sum(isinstance(each, kind) for each in gc.get_objects()) - before)

    learner.train(Dpo(ema_steps=ema_steps), model, pairs(text_encoder), SETTINGS, tmp_path, count)
    assert max(seen) == models
