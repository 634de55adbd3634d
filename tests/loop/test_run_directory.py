"""Changes that others make to a run's directory: links, a store moved, deleted or replaced, files written over it."""

import shutil
from pathlib import Path

import pytest

from loop.commands.exits import run_command_line
from tests.support.forked import run_forked
from tests.support.scripted_run import content, run_scripted, scripted_config
from tests.support.stores import finished_run, run_here

ROUNDS = 5


def run_with(folder: Path, what: str, run_dir: str = "run") -> None:
    """A scripted run whose old weights are deleted, to whose directory something happens."""
    config = scripted_config(folder, run={"rounds": ROUNDS}, gate={"rule": "always"}, retention={"keep_every": 100})
    points = 0

    def reached(name: str) -> None:
        nonlocal points
        points += 1
        place = folder / run_dir
        if what == "weights elsewhere" and name.endswith("begins"):
            move_weights(place / "policies", folder / "elsewhere")
        if points == 60 and what == "moved":
            place.rename(folder / "moved")
        if points == 60 and what == "deleted":
            (place / "store.db").unlink()
        if points == 60 and what == "replaced":
            shutil.copy(place / "store.db", folder / "copy")
            (folder / "copy").replace(place / "store.db")
        if points == 20 and what == "links in training":
            (folder / "other").mkdir()
            (folder / "other" / "file").write_text("of use")
            for name, target in (("stage", "other"), ("dangling", "nothing")):
                (place / "training").mkdir(exist_ok=True)
                (place / "training" / name).symlink_to(folder / target)

    run_command_line(lambda: run_scripted(folder / run_dir, config, reached))


def move_weights(policies: Path, elsewhere: Path) -> None:
    """Every policy's directory becomes a link to another disk."""
    for place in policies.glob("0*"):
        if not place.is_symlink():
            target = elsewhere / place.name
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(place, target)
            shutil.rmtree(place)
            place.symlink_to(target)


def test_weights_behind_links_are_deleted_by_their_link_alone(tmp_path: Path) -> None:
    done = run_forked(run_with, tmp_path, "weights elsewhere", check=None)
    assert done.returncode == 0, done.stderr
    left = sorted(path.name for path in (tmp_path / "run" / "policies").glob("0*"))
    assert 2 <= len(left) < ROUNDS
    assert len(list((tmp_path / "elsewhere").iterdir())) > len(left)  # a link is taken away, not what it leads to


def test_links_among_trainings_are_removed_and_not_followed(tmp_path: Path) -> None:
    done = run_forked(run_with, tmp_path, "links in training", check=None)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "other" / "file").read_text() == "of use"


@pytest.mark.parametrize("what", ["moved", "deleted", "replaced"])
def test_a_store_that_was_moved_stops_the_run_at_once(what: str, tmp_path: Path) -> None:
    done = run_forked(run_with, tmp_path, what, check=None)
    assert done.returncode == 1
    assert "was moved, deleted or replaced while this process worked on it" in done.stderr
    assert "Traceback" not in done.stderr
    if what == "deleted":
        assert not (tmp_path / "run" / "store.db").exists()  # nor is an empty one left in its place
        return
    place = "moved" if what == "moved" else "run"
    assert run_forked(run_with, tmp_path, "nothing", place, check=None).returncode == 0
    (tmp_path / "whole").mkdir()
    run_forked(run_with, tmp_path / "whole", "nothing")
    found, expected = content(tmp_path / place), content(tmp_path / "whole" / "run")
    assert {name for name in expected if found[name] != expected[name]} <= {"policy", "weights on disk"}  # base's path


@pytest.mark.parametrize("name", ["store.db", "rounds.jsonl", "policies/0001/model.safetensors"])
@pytest.mark.parametrize("command", [("report",), ("export", "pairs", "--format", "jsonl")])
def test_a_page_or_an_export_is_never_written_onto_the_run(command: tuple[str, ...], name: str, tmp_path: Path) -> None:
    run_dir = finished_run(tmp_path)
    file = run_dir / name
    file.parent.mkdir(parents=True, exist_ok=True)
    before = file.read_bytes() if file.exists() else b""
    link = tmp_path / "page.html"
    link.symlink_to(file)
    file.write_bytes(before)
    for output in (file, link):
        done = run_here(command[0], run_dir, *command[1:], "-o", output, check=2)
        assert "must not be overwritten" in done.stderr
    assert file.read_bytes() == before
