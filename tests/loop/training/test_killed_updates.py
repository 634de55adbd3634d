"""An update that was killed goes on where it was, and ends with the weights of one that nothing killed."""

import random
import shutil
import signal
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from loop.training.stage_directories import delete_others
from policies.weights import alone_in
from store import open_store
from store.rounds import get_policy
from tests.support.forked import Forked, run_forked, until
from tests.support.killed_update import EVERY_STEP, STEPS, TABLE, work_on_update

pytestmark = pytest.mark.heavy

KILLED = {-signal.SIGKILL, -signal.SIGALRM}


def outcome(run_dir: Path) -> tuple[str, list[tuple[Any, ...]]]:
    """The candidate's hash, and every step's figures."""
    with closing(open_store(run_dir, read_only=True)) as store:
        steps = store.rows(
            "SELECT step, method, loss, learning_rate, margin, accuracy FROM training_step ORDER BY step"
        )
        return get_policy(store, 3).sha256, [tuple(row) for row in steps]


@pytest.fixture(scope="module")
def unbroken(text_model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, list[tuple[Any, ...]]]:
    run_dir = tmp_path_factory.mktemp("unbroken") / "run"
    run_forked(work_on_update, str(text_model), str(run_dir))
    return outcome(run_dir)


def test_twelve_kills_inside_one_update_change_nothing(
    text_model: Path, tmp_path: Path, unbroken: tuple[str, list[tuple[Any, ...]]]
) -> None:
    run_dir, rng = tmp_path / "run", random.Random(12)
    for kills in range(12):
        moment = (rng.randrange(1, 4), None) if kills % 2 else (None, rng.uniform(0.01, 0.2))
        done = run_forked(work_on_update, str(text_model), str(run_dir), *moment, check=None)
        assert done.returncode in KILLED, (
            f"it ended after {kills} kills" if not done.returncode else done.stderr[-3000:]
        )
    run_forked(work_on_update, str(text_model), str(run_dir))
    assert outcome(run_dir) == unbroken
    assert len(unbroken[1]) == STEPS
    assert not (run_dir / "training").exists()


def test_a_finished_first_stage_is_not_trained_again(
    text_model: Path, tmp_path: Path, unbroken: tuple[str, list[tuple[Any, ...]]]
) -> None:
    run_dir = tmp_path / "run"
    while not list(run_dir.glob("training/rft-*/result.json")):
        done = run_forked(work_on_update, str(text_model), str(run_dir), 5, check=None)
        assert done.returncode in KILLED, done.stdout + done.stderr[-3000:]
    said = run_forked(work_on_update, str(text_model), str(run_dir)).stdout
    assert "  rft: trained before, in " in said
    assert "  rft: 16 items" not in said
    assert outcome(run_dir) == unbroken


@pytest.mark.parametrize("changed", ["rate", "items"])
def test_what_another_update_left_is_deleted_with_a_line(
    text_model: Path, tmp_path: Path, unbroken: tuple[str, list[tuple[Any, ...]]], changed: str
) -> None:
    run_dir, other = tmp_path / "run", tmp_path / "other"
    run_forked(work_on_update, str(text_model), str(other), 5, check=-signal.SIGKILL)
    (left,) = other.glob("training/rft-*")
    if changed == "items":
        (other / "training").rename(tmp_path / "training")
        shutil.copytree(tmp_path / "training", run_dir / "training")
        shutil.move(str(run_dir / "training" / left.name), str(run_dir / "training" / "rft-0123456789abcdef"))
        name = "rft-0123456789abcdef"
        said = run_forked(work_on_update, str(text_model), str(run_dir)).stdout
        assert outcome(run_dir) == unbroken
    else:
        tables = {"rft": {**TABLE, "learning_rate": 1e-4}, "learner": EVERY_STEP}
        name = left.name
        shutil.copytree(other / "training", run_dir / "training")
        said = run_forked(work_on_update, str(text_model), str(run_dir), None, None, tables).stdout
        assert outcome(run_dir) != unbroken
    assert f"  deleted {name} in {run_dir / 'training'}: left by a training of other items, settings or weights" in said
    assert "goes on after step" not in said


def test_without_checkpoints_an_update_restarts_and_ends_alike(
    text_model: Path, tmp_path: Path, unbroken: tuple[str, list[tuple[Any, ...]]]
) -> None:
    run_dir = tmp_path / "run"
    run_forked(work_on_update, str(text_model), str(run_dir), 5, check=-signal.SIGKILL)
    tables = {"learner": {"checkpoint_minutes": 0.0}}
    said = run_forked(work_on_update, str(text_model), str(run_dir), None, None, tables).stdout
    assert "  deleted rft-" in said
    assert "goes on after step" not in said
    assert outcome(run_dir) == unbroken


def test_a_half_checkpoint_is_deleted_with_a_line(
    text_model: Path, tmp_path: Path, unbroken: tuple[str, list[tuple[Any, ...]]]
) -> None:
    run_dir = tmp_path / "run"
    run_forked(work_on_update, str(text_model), str(run_dir), 5, check=-signal.SIGKILL)
    (checkpoint,) = run_dir.glob("training/rft-*/checkpoint-?")
    (checkpoint / "optimizer.pt").write_bytes(b"half")
    shutil.copytree(checkpoint, checkpoint.with_name("checkpoint-9.tmp"))
    said = run_forked(work_on_update, str(text_model), str(run_dir)).stdout
    for name in (checkpoint.name, "checkpoint-9.tmp"):
        assert f"  deleted {name} in {checkpoint.parent}: half written" in said
    assert outcome(run_dir) == unbroken


def test_an_update_of_two_processes_survives_its_controller(text_model: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    tables = {"learner": {**EVERY_STEP, "workers": 2}}
    run_forked(work_on_update, str(text_model), str(tmp_path / "unbroken"), None, None, tables)
    run_dir = tmp_path / "run"
    for stage in ("rft", "dpo"):
        running = Forked(work_on_update, str(text_model), str(run_dir), None, None, tables)
        until(lambda stage=stage: bool(list(run_dir.glob(f"training/{stage}-*/checkpoint-*[0-9]"))), running)  # type: ignore[misc]
        running.kill_alone()
    said = run_forked(work_on_update, str(text_model), str(run_dir), None, None, tables).stdout
    assert "  rft: trained before, in " in said
    assert "  dpo: goes on after step " in said
    assert outcome(run_dir) == outcome(tmp_path / "unbroken")
    assert len(outcome(run_dir)[1]) == STEPS


def test_an_update_waits_for_the_process_of_a_killed_controller(tmp_path: Path) -> None:
    stage = tmp_path / "training" / "dpo-0123456789abcdef"
    half = stage / "checkpoint-9.tmp"
    half.mkdir(parents=True)
    said: list[str] = []
    deleting = threading.Thread(target=delete_others, args=(stage.parent, [stage], said.append))
    with alone_in(stage):  # as the first process of a training
        deleting.start()
        deleting.join(0.5)
        assert deleting.is_alive()
        half.rename(stage / "checkpoint-9")
    deleting.join(10)
    assert said == [f"  deleted checkpoint-9 in {stage}: half written"]
