"""Runs with two vLLM engines and two learner processes, which are killed: they end like a run of one process."""

import json
import os
import signal
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support.command_line import log_of, run_command, start_command
from tests.support.real_runs import SAME_EACH_TIME, SMALL_EASY_VQA, poll, query, write_recipe

pytestmark = pytest.mark.heavy

CONTENT = {
    **SAME_EACH_TIME,
    "text": 'SELECT round, question, author, "index", text FROM sample ORDER BY 1, 2, 3, 4',
    "answer": "SELECT policy, split, style, question, text FROM evaluation ORDER BY 1, 2, 3, 4",
    "sha256": "SELECT number, sha256 FROM policy ORDER BY number",
}
TWO_ENGINES = ("--set", "engine.replicas=2")


def content(run_dir: Path) -> dict[str, list[Any]]:
    return {table: query(run_dir, sql) for table, sql in CONTENT.items()}


def ray_processes() -> dict[int, str]:
    """Processes of Ray on this machine with their names, those of other tests among them."""
    found = {}
    for process in psutil.process_iter(["cmdline"]):
        words = " ".join(process.info["cmdline"] or ())
        if "raylet" in words or "gcs_server" in words or words.startswith("ray::"):
            found[process.pid] = words[:60]
    return found


def left_after(seconds: float, before: Collection[int], name: str = "") -> dict[int, str]:
    """Ray's processes with `name` in their names that are still there after `seconds`, those of `before` left out."""
    deadline = time.monotonic() + seconds
    while left := {pid: word for pid, word in ray_processes().items() if pid not in before and name in word}:
        if time.monotonic() > deadline:
            break
        time.sleep(0.5)
    return left


def kill_engines_until_it_ends(run_dir: Path, command: Any) -> int:
    """Kill one engine each time that samples or answers have come; returns how many were killed."""
    killed, seen, deadline = 0, 0, time.monotonic() + 400
    while not command.has_ended() and time.monotonic() < deadline:
        time.sleep(0.2)
        counted = poll(run_dir, "SELECT (SELECT count(*) FROM sample) + (SELECT count(*) FROM evaluation)")
        if killed < 3 and counted and counted[0][0] > seen:
            seen = counted[0][0] + 300
            for (pid,) in poll(run_dir, "SELECT pid FROM engine WHERE state = 'serving' ORDER BY updated, pid LIMIT 1"):
                os.kill(pid, signal.SIGKILL)
                killed += 1
    return killed


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recipe(tmp_path_factory.mktemp("recipe"), SMALL_EASY_VQA)


@pytest.fixture(scope="module")
def one(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one process that nothing interrupted."""
    run_dir = tmp_path_factory.mktemp("one") / "run"
    run_command("run", "--config", recipe, "--run-dir", run_dir)
    return run_dir


def test_two_engines_that_are_killed_end_like_one_that_is_not(recipe: Path, one: Path, tmp_path: Path) -> None:
    before, two = ray_processes(), tmp_path / "two"
    running = start_command("run", "--config", recipe, "--run-dir", two, *TWO_ENGINES)
    killed = kill_engines_until_it_ends(two, running)
    done = running.wait()
    assert done.returncode == 0, done.stderr[-3000:]
    assert killed == 3
    assert content(two) == content(one)
    engines = json.loads(run_command("status", two, "--json", check=3).stdout)["engines"]
    assert sum(engine["restarts"] for engine in engines) == 3
    assert all(engine["chains"] > 0 for engine in engines)
    assert "is lost and begun again" in (two / "run.log").read_text()
    assert not left_after(10, before)


def test_engines_and_learners_continue_after_a_killed_controller(recipe: Path, one: Path, tmp_path: Path) -> None:
    before, run_dir = ray_processes(), tmp_path / "run"
    several = (*TWO_ENGINES, "--set", "learner.workers=2")
    running = start_command("run", "--config", recipe, "--run-dir", run_dir, *several)
    deadline = time.monotonic() + 300
    while not poll(run_dir, "SELECT 1 FROM evaluation LIMIT 1") and time.monotonic() < deadline:
        time.sleep(0.2)
    running.kill_alone()
    assert not left_after(30, before, "EngineActor")
    run_command("run", "--run-dir", run_dir, *several)
    assert {table: query(run_dir, sql) for table, sql in SAME_EACH_TIME.items()} == {
        table: query(one, sql) for table, sql in SAME_EACH_TIME.items()
    }
    for mine, theirs in zip(log_of(run_dir), log_of(one), strict=True):
        assert mine["training_loss"] == pytest.approx(theirs["training_loss"], abs=1e-3)
        assert mine["accuracy"]["direct"]["accuracy"] == pytest.approx(
            theirs["accuracy"]["direct"]["accuracy"], abs=0.1
        )
    assert not left_after(180, before)  # Ray's own agents try to reach the head for a minute or two
