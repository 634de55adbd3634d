"""No optimizer step at rate 0: an update of a single step moves the weights, and one that moves none is no update."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from policies.encoding import Encoder, Prompt
from policies.learner.base import TrainingSettings
from policies.learner.items import SftItem
from policies.learner.learner import LocalLearner
from policies.learner.sft import Sft
from store import open_store
from tests.support.scripted_run import in_process, run_scripted, scripted_config

SETTINGS = TrainingSettings(learning_rate=1e-3, epochs=1, batch_size=4, seed=0, warmup_ratio=0.03)


@pytest.fixture(scope="module")
def encoder(text_model: Path) -> Encoder:
    def no_image(digest: str) -> object:
        raise AssertionError(digest)

    return Encoder(str(text_model), no_image)  # type: ignore[arg-type]


@pytest.mark.heavy
@pytest.mark.parametrize("scheduler", ["cosine", "linear", "constant", "constant_with_warmup"])
def test_an_update_of_one_step_moves_the_weights(
    text_model: Path, encoder: Encoder, tmp_path: Path, scheduler: str
) -> None:
    learner = LocalLearner(encoder)
    model = learner.load(text_model)
    before = {name: value.clone() for name, value in model.named_parameters()}
    items = [SftItem(Prompt("What color is it?"), tuple(encoder.completion_ids("teal")))] * 4
    settings = replace(SETTINGS, scheduler=scheduler)
    result = learner.train(Sft(), model, items, settings, tmp_path, lambda *_: None)
    assert result.steps == 1
    assert any(not torch.equal(value, before[name]) for name, value in result.model.named_parameters())


@pytest.mark.heavy
def test_warm_up_ends_at_the_full_rate(text_model: Path, encoder: Encoder, tmp_path: Path) -> None:
    learner = LocalLearner(encoder)
    items = [SftItem(Prompt("What color is it?"), tuple(encoder.completion_ids("teal")))] * 8
    settings = replace(SETTINGS, batch_size=1, warmup_ratio=0.5, scheduler="linear")
    result = learner.train(Sft(), learner.load(text_model), items, settings, tmp_path, lambda *_: None)
    rates = [step.learning_rate for step in result.curve]
    assert rates == pytest.approx([1e-3 * share for share in (0.25, 0.5, 0.75, 1.0, 1.0, 0.75, 0.5, 0.25)])


@pytest.mark.heavy
def test_a_schedule_without_warm_up_stays_at_its_rate(text_model: Path, encoder: Encoder, tmp_path: Path) -> None:
    learner = LocalLearner(encoder)
    items = [SftItem(Prompt("What color is it?"), tuple(encoder.completion_ids("teal")))] * 4
    settings = replace(SETTINGS, batch_size=1, warmup_ratio=0.5, scheduler="constant")
    result = learner.train(Sft(), learner.load(text_model), items, settings, tmp_path, lambda *_: None)
    assert [step.learning_rate for step in result.curve] == [1e-3] * 4


def test_a_candidate_with_unchanged_weights_is_no_update(tmp_path: Path) -> None:
    config = scripted_config(tmp_path, update={"learning_rate": 1e-30}, rft={"learning_rate": 1e-30})
    assert in_process(lambda: run_scripted(tmp_path / "run", config)) == 0
    store = open_store(tmp_path / "run", read_only=True)
    rounds = store.rows("SELECT decision, reason, candidate_policy FROM round WHERE number > 0")
    assert [tuple(row) for row in rounds] == [("no_update", "the update left the weights as they were", None)] * 2
    assert store.value("SELECT count(*) FROM policy") == 2
    store.close()
    assert sorted(path.name for path in (tmp_path / "run" / "policies").iterdir()) == ["0001", "current"]
