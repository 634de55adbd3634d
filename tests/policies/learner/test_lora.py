"""Low-rank adapters: where they go, how they begin, what is kept of them, and what is published."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from PIL import Image

from policies import PolicyError
from policies.encoding import Encoder, Prompt
from policies.learner.base import Algorithm, TrainingResult, TrainingSettings
from policies.learner.dpo import Dpo
from policies.learner.grpo import Grpo
from policies.learner.items import GrpoItem, PairItem, SftItem
from policies.learner.learner import LocalLearner
from policies.learner.lora import check_targets, without_weights
from policies.learner.sft import Sft
from policies.weights import weights_sha256

pytestmark = pytest.mark.heavy

SETTINGS = TrainingSettings(learning_rate=1e-2, epochs=2, batch_size=4, seed=0, lora_rank=4, lora_alpha=8)
INITS = ("default", "gaussian", "orthogonal", "olora", "pissa", "pissa_niter_4")


@pytest.fixture(scope="module")
def encoder(text_model: Path) -> Encoder:
    return Encoder(str(text_model), lambda digest: Image.new("RGB", (64, 64), digest))


def pairs(encoder: Encoder) -> list[PairItem]:
    words = ("teal", "a red circle", "yes", "no, it is blue", "brown", "gray triangle there", "no", "yellow")
    sides = [tuple(encoder.completion_ids(text)) for text in words]
    return [PairItem(Prompt(f"What is {n}?"), side, sides[n - 1]) for n, side in enumerate(sides)]


def train(
    model: Path, encoder: Encoder, folder: Path, settings: TrainingSettings, algorithm: Algorithm | None = None
) -> TrainingResult:
    learner = LocalLearner(encoder)
    items: Sequence[Any] = pairs(encoder)
    if isinstance(algorithm, Sft):
        items = [SftItem(pair.prompt, pair.chosen) for pair in items]
    elif isinstance(algorithm, Grpo):
        items = [GrpoItem(pair.prompt, pair.chosen, (-1.0) ** n) for n, pair in enumerate(items)]
    return learner.train(algorithm or Dpo(), learner.load(model), items, settings, folder, lambda *_: None)


def weights(model: Any) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("init", INITS)
@pytest.mark.parametrize("rslora", [False, True])
def test_start_plus_kept_adapter_gives_published_weights(
    text_model: Path, encoder: Encoder, tmp_path: Path, init: str, rslora: bool
) -> None:
    settings = replace(SETTINGS, lora_init=init, lora_rslora=rslora, lora_dropout=0.1)
    learner, result = LocalLearner(encoder), train(text_model, encoder, tmp_path / "work", settings)
    assert result.adapter is not None
    digest = learner.publish(result.model, tmp_path / "policy", {"adapter": result.adapter})
    assert digest == weights_sha256(tmp_path / "policy")
    start, published = learner.load(text_model), weights(learner.load(tmp_path / "policy"))
    moved = max(float((value - published[name]).abs().max()) for name, value in weights(start).items())
    with_adapter = PeftModel.from_pretrained(start, str(tmp_path / "policy" / "adapter")).merge_and_unload()
    for name, value in weights(with_adapter).items():
        torch.testing.assert_close(value, published[name], rtol=0, atol=1e-3 * moved + 1e-6)
    assert moved > 1e-3


@pytest.mark.parametrize("init", INITS)
def test_the_first_losses_are_those_of_the_start(text_model: Path, encoder: Encoder, tmp_path: Path, init: str) -> None:
    result = train(text_model, encoder, tmp_path, replace(SETTINGS, lora_init=init, batch_size=8))
    assert result.curve[0].loss == pytest.approx(0.693147, abs=1e-4), "the reference is the model before the adapter"


def test_only_the_targets_move(text_model: Path, encoder: Encoder, tmp_path: Path) -> None:
    before = weights(LocalLearner(encoder).load(text_model))
    for targets, moves in (
        (("q_proj", "v_proj"), ("q_proj", "v_proj")),
        (r".*layers\.1\..*(up|down)_proj", ("_proj",)),
    ):
        result = train(text_model, encoder, tmp_path, replace(SETTINGS, lora_targets=targets))
        moved = {name for name, value in weights(result.model).items() if not torch.equal(value, before[name])}
        assert moved
        assert all(any(end in name for end in moves) for name in moved)
    assert all("layers.1." in name and "self_attn" not in name for name in moved)


@pytest.mark.parametrize(
    ("targets", "frozen", "fault"),
    [
        (("q_prj",), (), "'q_prj' matches no linear layer of this model; its linear layers: down_proj, gate_proj"),
        ((".*nothing"), (), "'.*nothing' matches no linear layer"),
        (("q_proj", "input_layernorm"), (), "'input_layernorm' matches no linear layer"),
        ((r".*layers\.0.*"), (), "which is no linear layer"),
        (("lm_head",), (), "'lm_head' is the output layer"),
        (("q_proj",), ("layers",), "all that 'q_proj' matches is frozen"),
    ],
)
def test_targets_that_match_nothing_are_one_line(
    text_model: Path, targets: str | tuple[str, ...], frozen: tuple[str, ...], fault: str
) -> None:
    with pytest.raises(PolicyError, match=r"^update.lora_targets: ") as raised:
        check_targets(without_weights(str(text_model)), targets, frozen, "update.lora_targets")
    assert fault in str(raised.value)


@pytest.mark.parametrize("algorithm", [Dpo(), Sft(), Grpo(max_tokens=8)])
def test_dropout_is_active_whatever_the_algorithm(
    text_model: Path, encoder: Encoder, tmp_path: Path, algorithm: Algorithm
) -> None:
    without = train(text_model, encoder, tmp_path, SETTINGS, algorithm)
    half = train(text_model, encoder, tmp_path, replace(SETTINGS, lora_dropout=0.5), algorithm)
    again = train(text_model, encoder, tmp_path, replace(SETTINGS, lora_dropout=0.5), algorithm)
    assert [step.loss for step in without.curve][-1] != [step.loss for step in half.curve][-1]
    for name, value in weights(half.model).items():
        assert torch.equal(value, dict(again.model.named_parameters())[name]), "a seed gives the same adapter each time"


def test_merging_into_bfloat16_keeps_small_changes(text_model: Path, encoder: Encoder, tmp_path: Path) -> None:
    learner = LocalLearner(encoder, dtype="bfloat16")
    settings = replace(SETTINGS, learning_rate=1e-4)
    start = learner.load(text_model)
    before = weights(start)
    result = learner.train(Dpo(), start, pairs(encoder), settings, tmp_path, lambda *_: None)
    merged = weights(result.model)
    base = LocalLearner(encoder).load(text_model)
    base.load_state_dict({name: value.float() for name, value in before.items()}, strict=False)
    assert result.adapter is not None
    exact = weights(PeftModel.from_pretrained(base, str(result.adapter)).merge_and_unload())
    names = [name for name in before if "_proj" in name]
    found = torch.cat([(merged[name].float() - before[name].float()).flatten() for name in names])
    wanted = torch.cat([(exact[name] - before[name].float()).flatten() for name in names])
    assert {value.dtype for value in merged.values()} == {torch.bfloat16}
    assert float((found @ wanted) / (wanted @ wanted)) == pytest.approx(1.0, abs=0.15)
