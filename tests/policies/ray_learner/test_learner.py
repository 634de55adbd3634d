"""Trainings by two processes: the same curve as by one, whole weights at the end, and clear words when one is lost."""

import io
import os
import random
import shutil
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from safetensors.torch import load_file, save_file

pytest.importorskip("ray")

from base_model.scenes import draw_scene
from policies import PolicyError
from policies.encoding import Encoder, Prompt
from policies.learner.base import Algorithm, TrainingSettings
from policies.learner.callbacks import TrainingDiverged
from policies.learner.dpo import Dpo
from policies.learner.grpo import Grpo
from policies.learner.items import GrpoItem, PairItem, SftItem
from policies.learner.learner import LocalLearner
from policies.learner.sft import Sft
from policies.probe import Before, ProbeFailed, probe_engine
from policies.ray_engines.cluster import Resources
from policies.ray_engines.images import ImageSource
from policies.ray_learner.learner import SavedModel, WorkerSettings, WorkersLearner
from policies.verifier import ScoredChain
from policies.vllm_engine import EngineSettings, VllmEngine
from policies.weights import weights_sha256
from store.image_decoding import decode_image
from tests.support.command_line import BASE_MODEL

pytestmark = pytest.mark.heavy

SCENES = [draw_scene(random.Random(n)) for n in range(16)]
STEPS = 20
TOLERANCE = 1e-3
"""Of the probe, in nats per token; two processes sum in another order than one."""
SETTINGS = TrainingSettings(learning_rate=1e-4, epochs=1, batch_size=8, seed=0)


def png(name: str) -> bytes:
    content = io.BytesIO()
    SCENES[int(name)].image.save(content, "PNG")
    return content.getvalue()


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder(str(BASE_MODEL), lambda name: decode_image(png(name)))


@pytest.fixture(scope="module")
def one(encoder: Encoder) -> LocalLearner:
    return LocalLearner(encoder)


def workers(one: LocalLearner, encoder: Encoder, *, sharded: bool = False) -> WorkersLearner:
    environment = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}
    settings = WorkerSettings(2, Resources(0, 0), sharded, environment=environment, restarts_without_progress=0)
    return WorkersLearner(one, encoder, BASE_MODEL, ImageSource(png, decode_image), settings)


def items_of(encoder: Encoder, algorithm: Algorithm) -> list[Any]:
    """Twenty batches of completions whose lengths differ; the last one is not full, and odd."""
    items: list[Any] = []
    for n in range(STEPS * SETTINGS.batch_size - 3):
        prompt = Prompt("What color is it? Give a short answer.", (str(n % 16),))
        right = tuple(encoder.completion_ids(SCENES[n % 16].color + " and" * (n % 7)))
        wrong = tuple(encoder.completion_ids("teal" + " or" * (n % 5)))
        if isinstance(algorithm, Sft):
            items.append(SftItem(prompt, right))
        elif isinstance(algorithm, Dpo):
            items.append(PairItem(prompt, right, wrong))
        else:
            items.append(GrpoItem(prompt, right if n % 2 else wrong, 1.0 if n % 2 else -1.0))
    return items


def nothing(*_: object) -> None: ...


@pytest.fixture(scope="module")
def engine(encoder: Encoder) -> Iterator[VllmEngine]:
    settings = EngineSettings(dtype="float32", max_model_len=256, max_num_seqs=8, kv_cache_gib=0.1, enforce_eager=True)
    running = VllmEngine(str(BASE_MODEL), encoder, settings, 0)
    yield running
    running.close()


def with_shards_of_base(trained: Path, rank: int, folder: Path) -> Path:
    """The trained policy, but what the process of that rank held is as it was before the training."""
    shutil.copytree(trained, folder)
    weights, base = (load_file(place / "model.safetensors") for place in (trained, BASE_MODEL))
    for name, value in weights.items():
        # As FSDP2 shares a tensor of one dimension or more out: by rows, the first process having the larger half.
        rows = slice(0, -(-len(value) // 2)) if rank == 0 else slice(-(-len(value) // 2), None)
        value[rows] = base[name][rows]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    return folder


@pytest.mark.parametrize(
    ("algorithm", "sharded"),
    [
        (Sft(), False),
        (Dpo(losses={"sigmoid": 0.2, "sft": 1.0}), False),
        (Dpo(losses={"sigmoid": 0.2, "sft": 1.0}), True),
        (Grpo(), False),
    ],
    ids=["sft", "dpo", "dpo-fsdp2", "grpo"],
)
def test_two_processes_train_as_one_does(
    one: LocalLearner, encoder: Encoder, tmp_path: Path, algorithm: Algorithm, *, sharded: bool
) -> None:
    items = items_of(encoder, algorithm)
    alone = one.train(algorithm, one.load(BASE_MODEL), items, SETTINGS, tmp_path / "one", nothing)
    two, told = workers(one, encoder, sharded=sharded), list[int]()
    model = two.load(BASE_MODEL)
    together = two.train(algorithm, model, items, SETTINGS, tmp_path, lambda done, *_: told.append(done))
    losses = [(a.loss, b.loss) for a, b in zip(alone.curve, together.curve, strict=True)]
    assert len(losses) == STEPS
    assert max(abs(a - b) for a, b in losses) < 1e-5, losses
    assert all(a.learning_rate == b.learning_rate for a, b in zip(alone.curve, together.curve, strict=True))
    assert told[-1] == STEPS
    if sharded:
        assert together.remarks == ("FSDP2: 83 of 83 parameters are shared out among 2 processes",)
    sha256 = two.publish(together.model, tmp_path / "published")
    assert sha256 == weights_sha256(tmp_path / "published")
    assert {f.name for f in (tmp_path / "published").iterdir()} >= {
        "config.json",
        "model.safetensors",
        "tokenizer.json",
    }
    chains = [ScoredChain(item.prompt, (60, 117, 200)) for item in items[:4]]
    mine = one.token_logprobs(alone.model, chains)
    theirs = two.token_logprobs(SavedModel(tmp_path / "published"), chains)
    assert max(abs(a - b) for x, y in zip(mine, theirs, strict=True) for a, b in zip(x, y, strict=True)) < 1e-3


def test_the_probe_passes_fsdp2_weights_but_no_wrong_shard(
    one: LocalLearner, encoder: Encoder, engine: VllmEngine, tmp_path: Path
) -> None:
    steep = replace(SETTINGS, learning_rate=1e-3)
    items = items_of(encoder, Sft())[:64]
    alone = one.train(Sft(), one.load(BASE_MODEL), items, steep, tmp_path / "one", nothing)
    two = workers(one, encoder, sharded=True)
    together = two.train(Sft(), two.load(BASE_MODEL), items, steep, tmp_path, nothing)
    assert together.remarks == ("FSDP2: 83 of 83 parameters are shared out among 2 processes",)
    published = tmp_path / "published"
    sha256 = two.publish(together.model, published)

    weights, expected = load_file(published / "model.safetensors"), dict(alone.model.named_parameters())
    assert weights.keys() == expected.keys()
    assert all(torch.allclose(weights[name], value, rtol=0.0, atol=1e-4) for name, value in expected.items())

    chains = [ScoredChain(item.prompt, item.completion) for item in items[:8]]
    prompts, completions = [c.prompt for c in chains], [c.completion for c in chains]
    engine.load_weights(BASE_MODEL)
    base = [sum(each) for each in one.token_logprobs(one.load(BASE_MODEL), chains)]
    before = Before(base, engine.score(prompts, completions), lambda: 1.0)
    # Not the scores of what was published: a wrong shard would be in them, too.
    learner = [sum(each) for each in one.token_logprobs(alone.model, chains)]
    assert engine.load_weights(published) == sha256
    proof, _ = probe_engine(engine, learner, chains, TOLERANCE, before)
    assert proof.told, proof.explained()
    for rank in (0, 1):
        wrong = with_shards_of_base(published, rank, tmp_path / f"wrong-{rank}")
        engine.load_weights(wrong)
        with pytest.raises(ProbeFailed):
            probe_engine(engine, learner, chains, TOLERANCE, before)


def test_a_training_that_diverges_says_so_from_every_process(
    one: LocalLearner, encoder: Encoder, tmp_path: Path
) -> None:
    two = workers(one, encoder)
    steep = TrainingSettings(learning_rate=1e30, epochs=1, batch_size=8, seed=0, max_grad_norm=0.0)
    with pytest.raises(TrainingDiverged, match="training diverged") as raised:
        two.train(Sft(), two.load(BASE_MODEL), items_of(encoder, Sft()), steep, tmp_path, nothing)
    assert "\n" not in str(raised.value)


def test_a_killed_learner_process_ends_training_in_one_line(
    one: LocalLearner, encoder: Encoder, tmp_path: Path
) -> None:
    two = workers(one, encoder)

    def kill_one(done: int, *_: object) -> None:
        if done > 3:
            for process in psutil.Process().children(recursive=True):
                if "LearnerWorker.train" in " ".join(process.cmdline()):
                    os.kill(process.pid, signal.SIGKILL)
                    return

    with pytest.raises(PolicyError, match=r"a process of the learner is lost \(.*; lost 1 times .*run again") as raised:
        two.train(Sft(), two.load(BASE_MODEL), items_of(encoder, Sft()) * 10, SETTINGS, tmp_path, kill_one)
    assert "\n" not in str(raised.value)


def test_a_batch_that_cannot_be_shared_out_is_named(one: LocalLearner, encoder: Encoder, tmp_path: Path) -> None:
    two = workers(one, encoder)
    odd = TrainingSettings(learning_rate=1e-4, epochs=1, batch_size=7, seed=0)
    with pytest.raises(PolicyError, match=r"batch_size = 7 cannot be shared out among learner\.workers = 2"):
        two.train(Sft(), two.load(BASE_MODEL), items_of(encoder, Sft()), odd, tmp_path, nothing)
