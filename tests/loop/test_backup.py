"""A backup made while the run works is a run of its own: whole or not there, and continued to the same end."""

import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import run_loop
from loop.backup import back_up
from loop.errors import InputError, LoopError
from loop.terminal.console import Console
from policies.weights import deleting
from store import open_store
from store.maintenance.check import find_faults
from store.rounds import mark_deleted
from tests.support.forked import run_forked
from tests.support.scripted_run import content, in_process, run_scripted, scripted_config
from tests.support.stores import run_here

MOMENTS = ("the files beside the store are copied", "the store is copied", "a policy is taken", "all is written")
LAST = "the store has its name"


def same_content(run_dir: Path) -> dict[str, list[Any]]:
    """The run's content without the requests to the test's teacher, which the backup does not hold."""
    (run_dir / "ledger").touch()
    found = content(run_dir)
    del found["teacher asked for"]
    return found


def backed_up_while_it_runs(folder: Path) -> None:
    """Make backups in the middle of several phases, by another process, and continue each."""
    run_dir, made = folder / "run", []

    def reached(name: str) -> None:
        if name in WHILE and name not in made:
            made.append(name)
            target = folder / f"backup{len(made)}"
            assert in_process(lambda: run_loop.main(["backup", str(run_dir), str(target)])) == 0

    config = scripted_config(folder)
    run_scripted(run_dir, config, reached)
    assert len(made) == len(WHILE)
    expected = same_content(run_dir)
    for n in range(1, len(made) + 1):
        restored = folder / f"backup{n}"
        before = open_store(restored)
        assert list(find_faults(before, lambda _: None)) == []
        before.close()
        assert in_process(lambda: run_scripted(restored, config)) == 0  # noqa: B023 (called at once)
        found = same_content(restored)
        assert {name for name in expected if found[name] != expected[name]} == set(), made[n - 1]


WHILE = (
    "round 0: distil: after commit",
    "round 1: sample: before commit",
    "round 1: update: after commit",
    "round 2: evaluate: after commit",
    "round 2: gate: after commit",
)


@pytest.mark.heavy
def test_a_backup_of_a_running_run_goes_on_to_the_same_end(tmp_path: Path) -> None:
    run_forked(backed_up_while_it_runs, tmp_path)


def finished(folder: Path) -> None:
    run_scripted(folder / "run", scripted_config(folder))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    run_forked(finished, folder)
    return folder / "run"


@pytest.fixture
def run_dir(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "run", symlinks=True))


def made(run_dir: Path, target: Path, crash_point: Callable[[str], None] = lambda _: None) -> None:
    store = open_store(run_dir, read_only=True)
    try:
        back_up(store, run_dir, target, Console(quiet=True), crash_point)
    finally:
        store.close()


def test_weights_are_linked_and_the_rest_is_copied(run_dir: Path) -> None:
    target = run_dir.with_name("backup")
    assert json.loads(run_here("backup", run_dir, target, "--json").stdout)["copied"] == 0
    weights = sorted(path.relative_to(target) for path in target.rglob("*.safetensors") if "current" not in path.parts)
    assert len(weights) > 1
    assert all((target / each).samefile(run_dir / each) for each in weights)
    assert not (target / "rounds.jsonl").samefile(run_dir / "rounds.jsonl")
    assert same_content(target) == same_content(run_dir)
    assert (target / "policy").is_symlink()
    assert "nothing wrong" in run_here("check", target).stdout


def test_a_file_system_without_links_gets_copies(run_dir: Path) -> None:
    for folder in ("/dev/shm", "/run"):  # noqa: S108
        other = Path(folder)
        if other.is_dir() and os.access(other, os.W_OK) and other.stat().st_dev != run_dir.stat().st_dev:
            break
    else:
        pytest.skip("there is no second file system")
    target = other / f"backup-{os.getpid()}"
    try:
        assert json.loads(run_here("backup", run_dir, target, "--json").stdout)["linked"] == 0
        assert same_content(target) == same_content(run_dir)
    finally:
        shutil.rmtree(target)


@pytest.mark.parametrize("moment", [*MOMENTS, LAST])
def test_a_killed_backup_looks_unfinished_and_the_next_succeeds(run_dir: Path, moment: str) -> None:
    target = run_dir.with_name("backup")

    def die(name: str) -> None:
        if name == moment:
            os.kill(os.getpid(), signal.SIGKILL)

    assert in_process(lambda: made(run_dir, target, die)) == signal.SIGKILL
    assert not target.exists()
    partial = target.with_name("backup.partial")
    if moment != LAST:  # a moment before its last name it is whole
        assert not (partial / "store.db").exists()
        assert "store is gone" in run_here("log", partial, check=1).stderr
    made(run_dir, target)
    assert not partial.exists()
    assert same_content(target) == same_content(run_dir)


def test_a_target_that_is_there_or_within_the_run_is_refused(run_dir: Path) -> None:
    (run_dir.parent / "there").mkdir()
    with pytest.raises(InputError, match="is there already"):
        made(run_dir, run_dir.parent / "there")
    with pytest.raises(InputError, match="lies within"):
        made(run_dir, run_dir / "policies" / "backup")
    assert "holds no run" in run_here("backup", run_dir.parent / "there", run_dir.parent / "x", check=2).stderr


def test_two_backups_to_one_target_do_not_mix(run_dir: Path) -> None:
    target = run_dir.with_name("backup")

    def again(name: str) -> None:
        if name == MOMENTS[1]:
            with pytest.raises(InputError, match="another backup is being written"):
                made(run_dir, target)

    made(run_dir, target, again)


def test_weights_are_not_deleted_while_a_backup_needs_them(run_dir: Path) -> None:
    free: list[bool] = []

    def delete(name: str) -> None:
        if name == MOMENTS[1]:
            for directory in (run_dir / "policies").glob("0*"):
                with deleting(directory) as locked:
                    free.append(locked)

    made(run_dir, run_dir.with_name("backup"), delete)
    assert free
    assert not any(free)


def test_a_policy_deleted_before_the_backup_is_not_in_it(run_dir: Path) -> None:
    shutil.rmtree(run_dir / "policies" / "0001")
    copies = 0

    def delete(name: str) -> None:
        nonlocal copies
        if name == MOMENTS[1]:
            copies += 1
            store = open_store(run_dir)
            mark_deleted(store, 1)
            store.close()

    target = run_dir.with_name("backup")
    made(run_dir, target, delete)
    assert copies == 2
    assert not (target / "policies" / "0001").exists()
    assert "nothing wrong" in run_here("check", target).stdout


def test_missing_weights_are_named_and_no_backup_is_left(run_dir: Path) -> None:
    shutil.rmtree(run_dir / "policies" / "0001")
    with pytest.raises(LoopError, match=r"policies/0001 holds no weights.*'check"):
        made(run_dir, run_dir.with_name("backup"))
    assert not run_dir.with_name("backup").exists()


def test_weights_that_are_links_are_whole_in_the_backup(tmp_path: Path) -> None:
    config = scripted_config(tmp_path)
    run_forked(run_scripted, tmp_path / "run", config)
    weights = tmp_path / "run" / "policies" / "0001" / "model.safetensors"
    weights.rename(tmp_path / "run" / "policies" / "elsewhere")
    weights.symlink_to("../elsewhere")
    run_here("backup", tmp_path / "run", tmp_path / "backup")
    shutil.rmtree(tmp_path / "run")
    assert "nothing wrong" in run_here("check", tmp_path / "backup").stdout


@pytest.mark.parametrize("link", [False, True])
def test_a_users_own_directory_is_no_unfinished_backup(link: bool, tmp_path: Path) -> None:
    run_forked(run_scripted, tmp_path / "run", scripted_config(tmp_path))
    partial = tmp_path / "target.partial"
    kept = tmp_path / "kept" if link else partial
    kept.mkdir()
    (kept / ("run.log" if link else "mine")).write_text("of use")
    if link:
        partial.symlink_to(kept)
    done = run_here("backup", tmp_path / "run", tmp_path / "target", check=2)
    assert "is no unfinished backup" in done.stderr
    assert [path.read_text() for path in kept.iterdir()] == ["of use"]
