"""bfloat16 weights move as float32 weights do, where an optimizer that rounds to the nearest leaves them."""

import re
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import load_file

from policies.encoding import Encoder, Prompt
from policies.learner.base import TrainingSettings
from policies.learner.dpo import Dpo
from policies.learner.items import PairItem
from policies.learner.learner import LocalLearner
from policies.learner.optimizer_names import BITSANDBYTES, OPTIMIZERS, missing
from policies.learner.rounded_adamw import RoundedAdamW, rounded

DPO_RATE = TrainingSettings(5e-7, epochs=1, batch_size=2, seed=0, scheduler="constant", optimizer="adamw_torch")


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@given(st.floats(-(2.0**60), 2.0**60, width=32, allow_subnormal=False), st.integers(0, 1000))
@settings(max_examples=200)
def test_a_value_is_rounded_to_one_of_its_neighbours(value: float, seed: int) -> None:
    exact = torch.full((64,), value)
    found = rounded(exact, torch.bfloat16, generator(seed)).float()
    nearest = exact.bfloat16()
    ends = [torch.nextafter(nearest, torch.full_like(nearest, end)).float() for end in (-torch.inf, torch.inf)]
    assert bool(((ends[0] <= found) & (found <= ends[1])).all())
    assert bool(((found - exact).abs() < ends[1] - ends[0]).all())
    if bool((nearest.float() == exact).all()):
        assert torch.equal(found, exact), "what bfloat16 can hold stays as it is"


def test_the_mean_of_rounded_values_is_the_value() -> None:
    for value in (0.02 + 5e-7, -0.02 - 3e-5, 1.001, -7.77):
        exact = torch.full((1 << 18,), value, dtype=torch.float32)
        found = rounded(exact, torch.bfloat16, generator()).double()
        assert found.mean().item() == pytest.approx(value, abs=5 * found.std().item() / 2**9)


def test_in_float32_it_is_torchs_adamw() -> None:
    torch.manual_seed(0)
    start = torch.randn(1000)
    weights = [torch.nn.Parameter(start.clone()) for _ in range(2)]
    options: dict[str, Any] = {"lr": 1e-2, "weight_decay": 0.1, "betas": (0.9, 0.99)}
    optimizers = (RoundedAdamW(weights[:1], **options), torch.optim.AdamW(weights[1:], **options))
    for _ in range(20):
        gradient = torch.randn(1000)
        for weight, optimizer in zip(weights, optimizers, strict=True):
            weight.grad = gradient.clone()
            optimizer.step()
    torch.testing.assert_close(*weights, rtol=1e-5, atol=1e-6)


def test_it_goes_on_from_its_state_as_if_it_had_never_stopped() -> None:
    torch.manual_seed(0)
    gradients = torch.randn(10, 5000).bfloat16()

    def steps(weight: torch.nn.Parameter, optimizer: RoundedAdamW, places: range) -> None:
        for n in places:
            weight.grad = gradients[n].clone()
            optimizer.step()

    whole = torch.nn.Parameter(torch.ones(5000, dtype=torch.bfloat16))
    steps(whole, RoundedAdamW([whole], lr=1e-4, seed=3), range(10))
    first = torch.nn.Parameter(torch.ones(5000, dtype=torch.bfloat16))
    before = RoundedAdamW([first], lr=1e-4, seed=3)
    steps(first, before, range(4))
    second = torch.nn.Parameter(first.detach().clone())
    after = RoundedAdamW([second], lr=1e-4, seed=3)
    after.load_state_dict(before.state_dict())
    steps(second, after, range(4, 10))
    assert torch.equal(whole, second)


@pytest.fixture(scope="module")
def encoder(text_model: Path) -> Encoder:
    return Encoder(str(text_model), lambda digest: Image.new("RGB", (64, 64), digest))


def moves(model: Path, encoder: Encoder, dtype: str, start: dict[str, torch.Tensor], nearest: bool = False) -> Any:
    """How far DPO at its published rate moves every weight from the start, as one vector."""
    learner = LocalLearner(encoder, dtype=dtype)
    items = [
        PairItem(Prompt(f"What is {n}?"), tuple(encoder.completion_ids(a)), tuple(encoder.completion_ids(b)))
        for n in range(20)
        for a, b in (("teal", "red"), ("yes", "no, it is blue"))
    ]
    loaded = learner.load(model)
    loaded.load_state_dict(start, strict=False)
    dpo = PlainAdamW() if nearest else Dpo()
    with TemporaryDirectory() as folder:
        trained = learner.train(dpo, loaded, items, DPO_RATE, Path(folder), lambda *_: None).model
    return torch.cat([(p.float() - start[n]).flatten().detach() for n, p in trained.named_parameters()])


class PlainAdamW(Dpo):
    """AdamW as torch has it, which rounds bfloat16 weights to the nearest."""

    def trainer(self, **common: Any) -> Any:
        trainer = super().trainer(**common)
        trainer.create_optimizer = lambda *_: setattr(
            trainer, "optimizer", torch.optim.AdamW(trainer.model.parameters(), lr=5e-7)
        )
        return trainer


@pytest.mark.heavy
def test_dpo_moves_bfloat16_weights_as_float32_ones(text_model: Path, encoder: Encoder) -> None:
    model = LocalLearner(encoder, dtype="bfloat16").load(text_model)
    start = {name: parameter.detach().float() for name, parameter in model.named_parameters()}
    exact = moves(text_model, encoder, "float32", start)
    bfloat16 = moves(text_model, encoder, "bfloat16", start)
    nearest = moves(text_model, encoder, "bfloat16", start, nearest=True)

    def share(found: torch.Tensor) -> float:
        """How much of the float32 move lies in it: 1 for the same direction and size on average."""
        return float((found @ exact) / (exact @ exact))

    assert share(bfloat16) == pytest.approx(1.0, abs=0.15)
    assert share(nearest) < 0.5
    assert int((nearest != 0).sum()) < 0.2 * int((exact != 0).sum())


@pytest.mark.heavy
def test_a_learner_publishes_weights_of_its_dtype(text_model: Path, encoder: Encoder, tmp_path: Path) -> None:
    for name in ("bfloat16", "float32"):
        learner = LocalLearner(encoder, dtype=name)
        learner.publish(learner.load(text_model), tmp_path / name)
        dtypes = {tensor.dtype for tensor in load_file(tmp_path / name / "model.safetensors").values()}
        assert dtypes == {getattr(torch, name)}


@pytest.mark.heavy
def test_a_shrunk_bfloat16_policy_is_between_its_parents(text_model: Path, encoder: Encoder) -> None:
    learner = LocalLearner(encoder, dtype="bfloat16")
    start, end = learner.load(text_model), learner.load(text_model)
    with torch.no_grad():
        for parameter in end.parameters():
            parameter.copy_(torch.nextafter(parameter, torch.full_like(parameter, torch.inf)))
    before = torch.cat([p.detach().float().flatten() for p in start.parameters()])
    after = torch.cat([p.detach().float().flatten() for p in end.parameters()])
    between = torch.cat([p.detach().float().flatten() for p in learner.interpolate(start, end, 0.25).parameters()])
    assert float((between != before).float().mean()) == pytest.approx(0.25, abs=0.01)
    assert bool(((between == before) | (between == after)).all())


@pytest.mark.heavy
@pytest.mark.parametrize("optimizer", [name for name, package in OPTIMIZERS.items() if package == "torch"])
def test_every_optimizer_that_torch_brings_trains(
    text_model: Path, encoder: Encoder, tmp_path: Path, optimizer: str
) -> None:
    learner = LocalLearner(encoder)
    model = learner.load(text_model)
    before = {name: value.clone() for name, value in model.named_parameters()}
    item = PairItem(Prompt("What?"), tuple(encoder.completion_ids("teal")), tuple(encoder.completion_ids("red")))
    change = replace(DPO_RATE, learning_rate=1e-3, optimizer=optimizer)
    trained = learner.train(Dpo(), model, [item] * 4, change, tmp_path, lambda *_: None).model
    assert any(not torch.equal(value, before[name]) for name, value in trained.named_parameters())


def test_the_names_are_transformers_own() -> None:
    from transformers.training_args import OptimizerNames

    assert OPTIMIZERS.keys() <= {name.value for name in OptimizerNames}


@pytest.mark.parametrize("name", ["adamw_torch_8bit", *BITSANDBYTES])
def test_an_optimizer_that_the_machine_lacks_is_one_line(name: str) -> None:
    assert re.fullmatch(rf"learner.optimizer = '{name}' needs .*take 'adamw_torch'", missing(name) or "")
    assert missing("adamw_torch") is None
