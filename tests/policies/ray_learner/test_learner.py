"""Trainings by two processes: the same curve as by one, whole weights at the end, and clear words when one is lost."""

import io
import os
import random
import signal
from pathlib import Path
from typing import Any

import psutil
import pytest

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
from policies.ray_engines.cluster import Resources
from policies.ray_engines.images import ImageSource
from policies.ray_learner.learner import SavedModel, WorkerSettings, WorkersLearner
from policies.verifier import ScoredChain
from policies.weights import weights_sha256
from store.image_decoding import decode_image
from tests.support.command_line import BASE_MODEL

pytestmark = pytest.mark.heavy

SCENES = [draw_scene(random.Random(n)) for n in range(16)]
STEPS = 20
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
    settings = WorkerSettings(2, Resources(0, 0), sharded, environment=environment)
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


def test_a_training_that_diverges_says_so_from_every_process(
    one: LocalLearner, encoder: Encoder, tmp_path: Path
) -> None:
    two = workers(one, encoder)
    steep = TrainingSettings(learning_rate=1e30, epochs=1, batch_size=8, seed=0, max_grad_norm=0.0)
    with pytest.raises(TrainingDiverged, match="training diverged") as raised:
        two.train(Sft(), two.load(BASE_MODEL), items_of(encoder, Sft()), steep, tmp_path, nothing)
    assert "\n" not in str(raised.value)


def test_a_process_killed_while_it_trains_ends_the_training_in_one_line(
    one: LocalLearner, encoder: Encoder, tmp_path: Path
) -> None:
    two = workers(one, encoder)

    def kill_one(done: int, *_: object) -> None:
        if done > 3:
            for process in psutil.Process().children(recursive=True):
                if "LearnerWorker.train" in " ".join(process.cmdline()):
                    os.kill(process.pid, signal.SIGKILL)
                    return

    with pytest.raises(PolicyError, match=r"a process of the learner is lost \(.*; run again") as raised:
        two.train(Sft(), two.load(BASE_MODEL), items_of(encoder, Sft()) * 10, SETTINGS, tmp_path, kill_one)
    assert "\n" not in str(raised.value)


def test_a_batch_that_cannot_be_shared_out_is_named(one: LocalLearner, encoder: Encoder, tmp_path: Path) -> None:
    two = workers(one, encoder)
    odd = TrainingSettings(learning_rate=1e-4, epochs=1, batch_size=7, seed=0)
    with pytest.raises(PolicyError, match=r"batch_size = 7 cannot be shared out among learner\.workers = 2"):
        two.train(Sft(), two.load(BASE_MODEL), items_of(encoder, Sft()), odd, tmp_path, nothing)
