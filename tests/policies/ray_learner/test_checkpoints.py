"""Trainings by two processes that are killed or stopped go on from a checkpoint, and end the same, bit for bit."""

import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

pytest.importorskip("ray")

from policies import PolicyError
from policies.encoding import Encoder, Prompt
from policies.learner.base import Algorithm, TrainingResult, TrainingSettings
from policies.learner.checkpoints import PREFIX
from policies.learner.dpo import Dpo
from policies.learner.grpo import Grpo
from policies.learner.items import GrpoItem, PairItem
from policies.learner.learner import LocalLearner
from policies.ray_engines.cluster import Resources
from policies.ray_engines.images import ImageSource
from policies.ray_learner.learner import WorkerSettings, WorkersLearner
from policies.weights import weights_sha256
from store.image_decoding import decode_image

pytestmark = pytest.mark.heavy

SETTINGS = TrainingSettings(
    learning_rate=1e-3, epochs=30, batch_size=4, seed=5, accumulation=2, warmup_ratio=0.4, checkpoint_minutes=1e-9
)
"""Fourteen items: four batches an epoch, the last of two items, two steps an epoch, sixty in all."""

slow = pytest.mark.slow
CASES = [
    pytest.param(Dpo(losses={"sigmoid": 1.0, "sft": 0.2}), {}, True, id="dpo-fsdp2"),
    pytest.param(Dpo(), {"lora_rank": 2, "lora_dropout": 0.2}, False, id="dpo-adapter"),
    pytest.param(Dpo(ema_steps=2), {}, False, id="ema", marks=slow),
    pytest.param(Dpo(ema_steps=2), {}, True, id="ema-fsdp2", marks=slow),
    pytest.param(Grpo(max_tokens=8, beta=0.1), {}, False, id="grpo", marks=slow),
]


class Stop(Exception):
    """As a user's Ctrl-C."""


def no_image(name: str) -> Any:
    raise AssertionError("no image is asked for")


@pytest.fixture(scope="module")
def encoder(text_model: Path) -> Encoder:
    return Encoder(str(text_model), no_image)


def items(encoder: Encoder, algorithm: Algorithm) -> list[Any]:
    words = ("teal", "a red circle", "yes", "no, it is blue", "brown", "gray triangle there", "no")
    sides = [tuple(encoder.completion_ids(text)) for text in words]
    prompts = [Prompt(f"What is {n}?") for n in range(14)]
    if isinstance(algorithm, Grpo):
        return [GrpoItem(prompt, sides[n % 7], (-1.0) ** n) for n, prompt in enumerate(prompts)]
    return [PairItem(prompt, sides[n % 7], sides[n // 2 - 1]) for n, prompt in enumerate(prompts)]


def nothing(*_: object) -> None: ...


def learner_processes() -> list[psutil.Process]:
    """The processes of the training, children of this one."""
    found = psutil.Process().children(recursive=True)
    return [process for process in found if "LearnerWorker" in " ".join(process.cmdline())]


class Trained:
    """Trainings by two processes of the same items in folders of their own."""

    def __init__(self, model: Path, encoder: Encoder, algorithm: Algorithm, change: dict[str, Any], sharded: bool):
        self.said: list[str] = []
        settings = WorkerSettings(
            2, Resources(0, 0), sharded, environment={"OMP_NUM_THREADS": "1"}, restarts_without_progress=0
        )
        source = ImageSource(no_image, decode_image)
        self._learner = WorkersLearner(LocalLearner(encoder), encoder, model, source, settings, self.said.append)
        self._model, self._algorithm, self._items = model, algorithm, items(encoder, algorithm)
        self._settings = replace(SETTINGS, **change)

    def __call__(self, folder: Path, progress: Callable[..., None] = nothing) -> TrainingResult:
        return self._learner.train(
            self._algorithm, self._learner.load(self._model), self._items, self._settings, folder, progress
        )


@pytest.mark.parametrize(("algorithm", "change", "sharded"), CASES)
def test_a_process_killed_while_it_trains_changes_nothing(
    text_model: Path, encoder: Encoder, tmp_path: Path, algorithm: Algorithm, change: dict[str, Any], *, sharded: bool
) -> None:
    train = Trained(text_model, encoder, algorithm, change, sharded)
    unbroken = train(tmp_path / "unbroken")
    left, folder, seen = [1, 20], tmp_path / "killed", set[Path]()

    def kill_one(done: int, total: int, loss: float | None) -> None:
        # A second loss without a checkpoint since the first would end the training.
        new = set(folder.glob(f"{PREFIX}*[0-9]")) - seen
        if left and new and loss is not None and done >= left[0]:
            # One of them at a time: the first one, then the second.
            os.kill(sorted(process.pid for process in learner_processes())[len(left) % 2], signal.SIGKILL)
            left.pop(0)
            seen.update(new)

    killed = train(folder, kill_one)
    assert not left
    assert [line for line in train.said if "is lost" in line and "going on after step" in line] == train.said
    assert len(train.said) == 2
    assert weights_sha256(killed.model.directory) == weights_sha256(unbroken.model.directory)
    assert killed.curve == unbroken.curve


def test_a_stopped_training_writes_a_checkpoint_and_continues(
    text_model: Path, encoder: Encoder, tmp_path: Path
) -> None:
    train = Trained(text_model, encoder, Dpo(), {"checkpoint_minutes": 60.0, "epochs": 80}, sharded=True)
    unbroken = train(tmp_path / "unbroken")

    def stop(done: int, total: int, loss: float | None) -> None:
        if loss is not None:
            raise Stop

    with pytest.raises(Stop):
        train(tmp_path / "stopped", stop)
    (checkpoint,) = (tmp_path / "stopped").glob(f"{PREFIX}*")
    told: list[int] = []
    again = train(tmp_path / "stopped", lambda done, *_: told.append(done))
    assert min(filter(None, told)) > int(checkpoint.name.removeprefix(PREFIX))
    assert weights_sha256(again.model.directory) == weights_sha256(unbroken.model.directory)
    assert again.curve == unbroken.curve


def test_repeatedly_dying_processes_end_training_in_one_line(
    text_model: Path, encoder: Encoder, tmp_path: Path
) -> None:
    train = Trained(text_model, encoder, Dpo(), {"checkpoint_minutes": 0.0, "epochs": 800}, sharded=False)

    def kill_one(done: int, total: int, loss: float | None) -> None:
        if loss is not None and (running := learner_processes()):
            running[0].kill()

    with pytest.raises(PolicyError, match=r"a process of the learner is lost \(.*; lost 1 times") as raised:
        train(tmp_path, kill_one)
    assert "\n" not in str(raised.value)
