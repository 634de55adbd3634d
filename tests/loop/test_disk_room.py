"""A disk that has too little free space for a phase ends the run before the phase, and the run goes on from there."""

from pathlib import Path

import pytest

from loop.disk_room import SLACK
from loop.errors import LoopError
from store import open_store
from tests.support.forked import run_forked
from tests.support.scripted_run import Script, content, run_scripted, scripted_config

WEIGHTS = 3_000_000_000


def filling_up(folder: Path) -> None:
    """A run whose weights look large (sparse files, which take no blocks), on a disk with no space for them."""
    run_dir, config, now = folder / "run", scripted_config(folder), ["nothing"]

    def reached(name: str) -> None:
        now[0] = name
        if name == "round 1: pair begins":
            weights = sorted((run_dir / "policies").glob("0*/model.safetensors"))[-1]
            weights.with_name("padding.safetensors").touch()
            with weights.with_name("padding.safetensors").open("wb") as file:
                file.truncate(WEIGHTS)

    def free(directory: Path) -> int:
        return WEIGHTS - 1 if now[0].startswith("round 1: pair") else 10 * WEIGHTS

    message = r"round 1: update writes about 3,\d\d\d MB, and the disk of .* has 3,000 MB free; free some space"
    with pytest.raises(LoopError, match=message):
        run_scripted(run_dir, config, reached, Script(free_bytes=free))
    store = open_store(run_dir)
    assert store.value("SELECT phase FROM round WHERE number = 1") == "update"
    assert store.value("SELECT end_reason FROM session") == "LoopError"
    store.close()
    assert [path.name for path in (run_dir / "policies").iterdir() if path.suffix == ".tmp"] == []
    for padding in run_dir.rglob("padding.safetensors"):
        padding.unlink()
    run_scripted(run_dir, config)
    run_scripted(folder / "unbroken", config)
    found, expected = content(run_dir), content(folder / "unbroken")
    assert {name for name in expected if found[name] != expected[name]} == set()


def test_an_update_without_disk_room_is_not_begun(tmp_path: Path) -> None:
    run_forked(filling_up, tmp_path)


def almost_full(folder: Path) -> None:
    with pytest.raises(LoopError, match="round 0: distil writes about"):
        run_scripted(folder / "run", scripted_config(folder), script=Script(free_bytes=lambda directory: SLACK - 1))


def test_an_almost_full_disk_ends_the_run_before_a_phase(tmp_path: Path) -> None:
    run_forked(almost_full, tmp_path)
    store = open_store(tmp_path / "run")
    assert store.value("SELECT count(*) FROM teacher_call") == 0
    store.close()
