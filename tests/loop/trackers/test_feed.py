"""Trackers: they get the figures that the store holds, and after a kill they get nothing twice."""

import importlib.util
import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from loop.config.run_identity import record_run
from loop.config.schema import RunConfig
from loop.errors import InputError
from loop.reading.accuracy_log import log_rows
from loop.trackers import Report, Target, open_tracker
from loop.trackers.feed import open_trackers, tell_trackers
from loop.trackers.ledger import Ledger
from store import Store, open_store
from tests.support.command_line import run_command, run_program
from tests.support.trackers import send_reports, tracked_config

ROUNDS = 3
"""The cold start and two rounds."""


def events(run_dir: Path) -> dict[str, list[tuple[int, float]]]:
    """(step, value) by tag, as TensorBoard itself reads them."""
    accumulator = EventAccumulator(str(run_dir / "tracking" / "tensorboard"), size_guidance={"tensors": 0}).Reload()
    return {
        tag: [(event.step, float(event.tensor_proto.float_val[0])) for event in accumulator.Tensors(tag)]
        for tag in accumulator.Tags()["tensors"]
    }


@pytest.fixture
def store(scripted_run_dir: Path) -> Iterator[Store]:
    opened = open_store(scripted_run_dir, read_only=True)
    yield opened
    opened.close()


def test_tensorboard_reads_the_stores_rounds_and_curves(scripted_run_dir: Path, store: Store) -> None:
    found = events(scripted_run_dir)
    rows = log_rows(store)
    assert len(rows) == ROUNDS
    for tag, path in {
        "eval/cot/accuracy": ("accuracy", "cot", "accuracy"),
        "eval/cot/low": ("accuracy", "cot", "low"),
        "eval/direct/high": ("accuracy", "direct", "high"),
        "rollout/pass_rate": ("pass_rate",),
        "update/pairs": ("pairs",),
        "teacher/usd": ("teacher_usd",),
        "time/update_s": ("seconds", "update"),
    }.items():
        rounds, values = [], []
        for row in rows:
            value: Any = row
            for key in path:
                value = value[key]
            if value is not None and (row["samples"] or tag != "rollout/pass_rate"):
                rounds.append(row["round"])
                values.append(value)
        assert [x for x, _ in found[tag]] == rounds
        assert [y for _, y in found[tag]] == pytest.approx(values, rel=1e-6)
    assert found["gate/accepted"] == [(row["round"], float(row["decision"] == "accepted")) for row in rows]
    curve = store.rows("SELECT training_step.* FROM training_step ORDER BY training, step")
    assert [step for step, _ in found["train/loss"]] == list(range(1, len(curve) + 1))
    assert [loss for _, loss in found["train/loss"]] == pytest.approx([row["loss"] for row in curve])
    assert [step for step, _ in found["train/rewards/margins"]] == list(range(1, len(curve) + 1))


def test_a_run_tracked_late_is_told_whole_and_only_once(tmp_path: Path, scripted_run_dir: Path, store: Store) -> None:
    send_reports(tmp_path, store, "tensorboard")
    assert events(tmp_path) == events(scripted_run_dir)
    files = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "tracking" / "tensorboard").iterdir()}
    send_reports(tmp_path, store, "tensorboard")
    assert files == {path.name: path.stat().st_mtime_ns for path in (tmp_path / "tracking" / "tensorboard").iterdir()}


def test_killed_while_it_writes_event_files_the_run_is_told_once(tmp_path: Path, scripted_run_dir: Path) -> None:
    run_program("killed_tracker", tmp_path)
    found, unbroken = events(tmp_path / "run"), events(scripted_run_dir)
    assert {tag: [step for step, _ in points] for tag, points in found.items()} == {
        tag: [step for step, _ in points] for tag, points in unbroken.items()
    }


class Down:
    """A tracker whose server is down."""

    def has(self, name: str) -> bool:
        return False

    def send(self, report: Report) -> None:
        raise ConnectionError("no route")

    def close(self) -> None:
        raise ConnectionError("no route")


def test_a_tracker_that_is_down_is_said_and_the_others_are_told(tmp_path: Path, store: Store) -> None:
    working = open_tracker("tensorboard", Target(tmp_path, "p", "n", "id", {}))
    said: list[str] = []
    tell_trackers(store, [Down(), working], said.append)
    assert said == ["  Down was not told (ConnectionError: no route); the store has the figures"]
    assert "eval/cot/accuracy" in events(tmp_path)


def test_a_tracker_that_cannot_be_closed_does_not_end_the_run(store: Store) -> None:
    said: list[str] = []
    with ExitStack() as stack:
        open_trackers(tracked_config("wandb"), store, stack, said.append, lambda name, target: Down())
    assert said == ["  Down was not closed (ConnectionError: no route); the store has the figures"]


def test_a_tracked_run_keeps_its_id_with_more_rounds(tmp_path: Path) -> None:
    seen: list[str] = []

    def open_one(name: str, target: Target) -> Down:
        seen.append(target.id)
        return Down()

    for rounds in (3, 5):
        store = open_store(tmp_path, create=True)
        record_run(store, tracked_config("wandb").model_copy(update={"run": RunConfig(rounds=rounds)}))
        assert store.value("SELECT json_extract(configuration, '$.run.rounds') FROM run") == rounds
        with ExitStack() as stack:
            open_trackers(tracked_config("wandb"), store, stack, lambda line: None, open_one)
        store.close()
    assert seen[0] == seen[1]


def test_a_ledger_outlives_half_a_line(tmp_path: Path) -> None:
    path = tmp_path / "sent"
    Ledger(path).add("00000001-1-update")
    with path.open("a") as file:
        file.write("\n00000001-2-fig")
    after = Ledger(path)
    assert "00000001-1-update" in after
    assert "00000001-2-figures" not in after
    after.add("00000001-2-figures")
    assert "00000001-2-figures" in Ledger(path)


def test_a_tracker_that_is_not_installed_is_named_with_its_extra(tmp_path: Path) -> None:
    wanted = ("--set", 'tracking.report_to=["wandb"]')
    blocked = tmp_path / "sitecustomize.py"
    blocked.write_text(
        "import importlib.util as u\nfind = u.find_spec\n"
        "u.find_spec = lambda name, *rest: None if name == 'wandb' else find(name, *rest)\n"
    )
    done = run_command(
        "run", "--config", "easy_vqa", "--run-dir", tmp_path / "run", *wanted, check=2, PYTHONPATH=str(tmp_path)
    )
    assert "'wandb' is not installed; install the extra 'trackers'" in done.stderr
    assert not (tmp_path / "run").exists()


def test_a_tracker_that_cannot_start_is_named(tmp_path: Path) -> None:
    (tmp_path / "tracking").write_text("a file in its place")
    with pytest.raises(InputError, match=r"tracking.report_to: tensorboard cannot start .*leave it out"):
        open_tracker("tensorboard", Target(tmp_path, "p", "n", "id", {}))


@pytest.mark.skipif(importlib.util.find_spec("trackio") is None, reason="trackio is not installed (extra 'trackers')")
def test_trackio_keeps_rounds_and_curves_in_its_own_database(tmp_path: Path, store: Store) -> None:
    done = run_program("trackio_logs", store.path.parent, tmp_path)
    logs = json.loads(done.stdout.splitlines()[-1])
    rounds = [entry for entry in logs if "round" in entry]
    curve = [entry for entry in logs if "train/loss" in entry]
    assert [entry["round"] for entry in rounds] == [0, 1, 2]
    accuracies = [row["accuracy"]["cot"]["accuracy"] for row in log_rows(store)]
    assert [entry["eval/cot/accuracy"] for entry in rounds] == accuracies
    assert [entry["train/global_step"] for entry in curve] == [1, 2, 3]


@pytest.mark.skipif(importlib.util.find_spec("wandb") is None, reason="wandb is not installed (extra 'trackers')")
def test_wandb_offline_writes_a_run_to_sync_and_no_report_twice(tmp_path: Path, store: Store) -> None:
    run_program("wandb_history", store.path.parent, tmp_path)
    history = json.loads((tmp_path / "history.json").read_text())
    assert [entry["round"] for entry in history if "round" in entry] == [0, 1, 2]
    assert [entry["train/global_step"] for entry in history if "train/loss" in entry] == [1, 2, 3]
