"""A run directory whose store is gone: nothing begins anew by accident, and every command says what happened."""

import shutil
from pathlib import Path

import pytest

from store import StoreError, open_store
from store.errors import NoRunError
from tests.support.stores import finished_run, run_here


def lose_store(run_dir: Path, how: str) -> None:
    """Delete the store, or leave a file of no bytes in its place."""
    for file in run_dir.glob("store.db*"):
        file.unlink()
    if how == "empty":
        (run_dir / "store.db").touch()


@pytest.fixture(params=["missing", "empty"])
def lost_run(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, str]:
    """A finished run with weights and a log, without its store."""
    run_dir = finished_run(tmp_path)
    weights = run_dir / "policies" / "0001"
    weights.mkdir(parents=True)
    (weights / "model.safetensors").write_bytes(b"weights")
    (run_dir / "rounds.jsonl").write_text('{"round": 0}\n')
    lose_store(run_dir, request.param)
    return run_dir, request.param


@pytest.mark.parametrize("create", [True, False])
def test_a_run_without_its_store_is_refused(lost_run: tuple[Path, str], create: bool) -> None:
    run_dir, how = lost_run
    with pytest.raises(StoreError, match=f"store.db is {how}, policies and rounds.jsonl are there") as refused:
        open_store(run_dir, create=create)
    assert "to begin anew on purpose, delete" in str(refused.value)
    assert (run_dir / "policies" / "0001" / "model.safetensors").read_bytes() == b"weights"


@pytest.mark.parametrize("command", [("run", "--config", "easy_vqa", "--run-dir"), ("log",), ("check",), ("status",)])
def test_every_command_says_that_the_store_is_gone(lost_run: tuple[Path, str], command: tuple[str, ...]) -> None:
    run_dir, _ = lost_run
    said = run_here(*command, run_dir, check=1).stderr
    assert "holds a run whose store is gone" in said
    assert len(said.splitlines()) == 1


def test_with_the_rest_deleted_a_run_begins_anew(lost_run: tuple[Path, str]) -> None:
    run_dir, _ = lost_run
    shutil.rmtree(run_dir / "policies")
    (run_dir / "rounds.jsonl").unlink()
    open_store(run_dir, create=True).close()
    assert (run_dir / "store.db").stat().st_size > 0


def test_an_empty_file_alone_is_no_run(tmp_path: Path) -> None:
    (tmp_path / "store.db").touch()
    with pytest.raises(NoRunError, match=r"store\.db is empty"):
        open_store(tmp_path)
    assert "store.db is empty" in run_here("log", tmp_path, check=2).stderr
