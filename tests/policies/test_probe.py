"""The probe tells old weights from new ones wherever anything can, and says where it cannot."""

import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from base_model.scenes import draw_scene
from policies.encoding import Encoder, Prompt
from policies.learner.base import TrainingSettings
from policies.learner.dpo import Dpo
from policies.learner.items import PairItem, SftItem
from policies.learner.learner import LocalLearner
from policies.learner.sft import Sft
from policies.probe import Before, ProbeFailed, probe_engine, prove
from policies.verifier import ScoredChain
from policies.vllm_engine import EngineSettings, VllmEngine
from policies.weights import changed_share, weights_sha256
from tests.support.command_line import BASE_MODEL, run_command

ITEMS = [ScoredChain(Prompt("q"), (1,) * length) for length in (1, 2, 4, 8, 3, 5, 6, 7)]
OLD = [-1.0 * len(item.completion) for item in ITEMS]
TOLERANCE = 0.05
SCENES = [draw_scene(random.Random(n)) for n in range(8)]


def shifted(scores: Sequence[float], by: Sequence[float]) -> list[float]:
    """Scores moved by `by` nats per token, one number per score."""
    return [score + shift * len(item.completion) for score, shift, item in zip(scores, by, ITEMS, strict=True)]


def everything() -> float:
    return 1.0


shifts = st.lists(st.floats(-1.0, 1.0), min_size=len(ITEMS), max_size=len(ITEMS))


@given(shifts, shifts, st.sampled_from([1e-5, 1e-3, 0.02]), st.sampled_from([1e-4, 1e-3, 0.01]))
def test_an_engine_with_new_weights_passes_at_any_precision(
    direction: list[float], noise: list[float], precision: float, update: float
) -> None:
    new = shifted(OLD, [update * each for each in direction])
    engine = shifted(new, [precision * each for each in noise])
    held = shifted(OLD, [-precision * each for each in noise])
    proof = prove(new, engine, ITEMS, TOLERANCE, Before(OLD, held, lambda: 0.0))
    assert proof.difference <= precision + 1e-12


@given(shifts, st.sampled_from([1e-5, 1e-3, 0.02]), st.sampled_from([1e-4, 1e-3, 0.01]))
def test_an_engine_with_old_weights_is_caught_at_any_precision(
    noise: list[float], precision: float, update: float
) -> None:
    new = shifted(OLD, [update * (-1) ** n for n in range(len(ITEMS))])
    kept = shifted(OLD, [precision * each for each in noise])
    with pytest.raises(ProbeFailed, match="kept"):
        prove(new, kept, ITEMS, TOLERANCE, Before(OLD, kept, everything))


def test_an_engine_that_repeats_itself_inexactly_is_caught_too() -> None:
    new = shifted(OLD, [0.01] * len(ITEMS))
    kept = shifted(OLD, [0.02, -0.02] * 4)
    again = shifted(kept, [1e-5, -1e-5] * 4)
    with pytest.raises(ProbeFailed, match="kept"):
        prove(new, again, ITEMS, TOLERANCE, Before(OLD, kept, everything))


def test_scores_nearer_to_the_old_policy_are_caught() -> None:
    new, engine = shifted(OLD, [0.04] * len(ITEMS)), shifted(OLD, [0.005, 0.006] * 4)
    with pytest.raises(ProbeFailed, match="kept the old weights"):
        prove(new, engine, ITEMS, TOLERANCE, Before(OLD, OLD, everything))


def test_the_proof_says_if_it_cannot_tell_two_policies_apart() -> None:
    new = shifted(OLD, [1e-4] * len(ITEMS))
    proof = prove(new, OLD, ITEMS, TOLERANCE, Before(OLD, OLD, lambda: 0.0))
    assert not proof.told
    assert "it cannot tell it from the policy before it, which lies 1.0e-04 away" in proof.explained()


def test_a_large_difference_and_no_number_fail() -> None:
    for engine in (shifted(OLD, [0.06] * len(ITEMS)), [float("nan"), *OLD[1:]]):
        with pytest.raises(ProbeFailed, match="nats per token"):
            prove(OLD, engine, ITEMS, TOLERANCE)


def test_the_share_of_weights_that_a_precision_changes(tmp_path: Path) -> None:
    weights = torch.linspace(0.5, 0.9, 1000)
    for name, moved in (("old", 0.0), ("near", 1e-7), ("far", 0.1)):
        (tmp_path / name).mkdir()
        save_file({"w": weights + moved, name: weights}, tmp_path / name / "model.safetensors")
    assert changed_share(tmp_path / "old", tmp_path / "near", "float32") > 0.5
    assert changed_share(tmp_path / "old", tmp_path / "near", "bfloat16") < 0.01
    assert changed_share(tmp_path / "old", tmp_path / "far", "bfloat16") == 1.0


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder(str(BASE_MODEL), lambda name: SCENES[int(name)].image)


class KeepsOldWeights(VllmEngine):
    """Hashes the new weights as it should, and goes on computing with the old ones."""

    def load_weights(self, directory: Path) -> str:
        return weights_sha256(directory)


@pytest.fixture(scope="module")
def bfloat16_engine(encoder: Encoder) -> Iterator[KeepsOldWeights]:
    settings = EngineSettings(dtype="bfloat16", max_model_len=256, max_num_seqs=8, kv_cache_gib=0.1, enforce_eager=True)
    engine = KeepsOldWeights(str(BASE_MODEL), encoder, settings, 0)
    yield engine
    engine.close()


def scores(learner: LocalLearner, model: object, items: Sequence[ScoredChain]) -> list[float]:
    return [sum(each) for each in learner.token_logprobs(model, items)]


@pytest.mark.heavy
def test_old_bfloat16_weights_after_dpo_are_caught(
    bfloat16_engine: KeepsOldWeights, encoder: Encoder, tmp_path: Path
) -> None:
    learner = LocalLearner(encoder)
    prompts = [Prompt("What color is it? Give a short answer.", (str(n),)) for n in range(8)]
    items = [ScoredChain(prompt, tuple(encoder.completion_ids("### Answer: red"))) for prompt in prompts]
    right, wrong = (tuple(encoder.completion_ids(f"### Answer: {word}")) for word in ("red", "teal"))
    pairs = [PairItem(prompt, right, wrong) for prompt in prompts * 8]
    old = scores(learner, learner.load(BASE_MODEL), items)
    settings = TrainingSettings(learning_rate=5e-7, epochs=1, batch_size=4, seed=0)
    trained = learner.train(Dpo(), learner.load(BASE_MODEL), pairs, settings, tmp_path / "work", lambda *_: None).model
    new = scores(learner, trained, items)
    learner.publish(trained, tmp_path / "0001")
    engine, tolerance = bfloat16_engine, 0.05
    _, held = probe_engine(engine, old, items, tolerance)
    before = Before(old, held, lambda: changed_share(BASE_MODEL, tmp_path / "0001", "bfloat16"))
    assert engine.load_weights(tmp_path / "0001") == weights_sha256(tmp_path / "0001")
    stale = engine.score([item.prompt for item in items], [item.completion for item in items])
    assert prove(new, stale, items, tolerance).difference < tolerance  # the tolerance alone lets it pass
    with pytest.raises(ProbeFailed, match="are those of the weights before"):
        probe_engine(engine, new, items, tolerance, before)
    VllmEngine.load_weights(engine, tmp_path / "0001")
    probe_engine(engine, new, items, tolerance, before)


@pytest.mark.heavy
def test_scores_are_computed_outside_autocast(encoder: Encoder, tmp_path: Path) -> None:
    learner = LocalLearner(encoder)
    prompts = [Prompt("What color is it? Give a short answer.", (str(n),)) for n in range(8)]
    teal = tuple(encoder.completion_ids("teal"))
    settings = TrainingSettings(learning_rate=1e-4, epochs=1, batch_size=4, seed=0, mixed_precision="bf16")
    items = [SftItem(prompt, teal) for prompt in prompts]
    trained = learner.train(Sft(), learner.load(BASE_MODEL), items, settings, tmp_path, lambda *_: None).model
    learner.publish(trained, tmp_path / "0001")
    chains = [ScoredChain(prompt, teal) for prompt in prompts]
    anew = scores(learner, learner.load(tmp_path / "0001"), chains)
    assert scores(learner, trained, chains) == pytest.approx(anew, abs=1e-4)


@pytest.mark.heavy
def test_check_proves_an_exported_model_and_refuses_what_is_none(tmp_path: Path) -> None:
    done = run_command("check", BASE_MODEL, "--serve")
    assert f"served in float32 (sha256 {weights_sha256(BASE_MODEL)[:12]}, probe differs by" in done.stdout
    assert "has no config.json" in run_command("check", tmp_path, "--serve", check=2).stderr
