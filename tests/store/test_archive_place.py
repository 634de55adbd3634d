"""Archive files on object storage: written whole and compared before anything is deleted, and read like the others."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from loop.backup import back_up
from loop.terminal.console import Console
from store import Store, StoreError, open_store
from store.maintenance.archive import archive_round, find_sample, question_samples, round_samples
from store.maintenance.archive_place import require_place
from store.maintenance.check import find_faults
from tests.support.command_line import PROJECT, run_command


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    folder = tmp_path / "run"
    folder.mkdir()
    shutil.copy(PROJECT / "tests" / "fixtures" / "store_m001.db", folder / "store.db")
    opened = open_store(folder)
    yield opened
    opened.close()


@pytest.fixture(params=["memory", "file"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    place = f"file://{tmp_path}/bucket/runs" if request.param == "file" else "memory://bucket/runs"
    yield place
    system, path = fsspec.core.url_to_fs(place)
    if system.exists(path):
        system.rm(path, recursive=True)


def archive_faults(store: Store) -> list[str]:
    return [str(fault) for fault in find_faults(store, lambda _: None) if str(fault).startswith("archive")]


def test_rounds_archived_at_a_url_read_like_the_others(store: Store, url: str) -> None:
    before = {number: list(round_samples(store, number)) for number in (0, 1)}
    question = before[1][0]["question"]
    of_question = question_samples(store, 1, question)
    assert sum(archive_round(store, number, require_place(f"{url}/")) for number in (0, 1)) > 20
    assert store.value("SELECT file FROM archive WHERE round = 1") == f"{url}/round-000001.parquet"
    assert {number: list(round_samples(store, number)) for number in (0, 1)} == before
    assert question_samples(store, 1, question) == of_question
    moved = next(row["first_sample"] for row in store.rows("SELECT first_sample FROM archive WHERE round = 1"))
    assert find_sample(store, moved)["round"] == 1
    assert archive_faults(store) == []
    assert list((store.path.parent / "archive").iterdir()) == []


def test_files_at_a_url_that_are_altered_or_gone_are_named(store: Store, url: str) -> None:
    for number in (0, 1):
        archive_round(store, number, url)
    with fsspec.open(f"{url}/round-000000.parquet", "ab") as file:
        file.write(b"!")
    system, path = fsspec.core.url_to_fs(f"{url}/round-000001.parquet")
    system.rm(path)
    assert archive_faults(store) == [
        f"archive 0: {url}/round-000000.parquet was altered",
        f"archive 1: {url}/round-000001.parquet is missing",
    ]
    with pytest.raises(StoreError, match=r"round-000001\.parquet of .* cannot be read"):
        list(round_samples(store, 1))


def test_where_the_file_cannot_be_written_nothing_is_deleted(store: Store, tmp_path: Path) -> None:
    before = list(round_samples(store, 1))
    (tmp_path / "full").write_text("a file where a folder should be")
    with pytest.raises(StoreError, match="cannot be written"):
        archive_round(store, 1, f"file://{tmp_path}/full/runs")
    assert list(round_samples(store, 1)) == before
    assert store.value("SELECT count(*) FROM archive") == 0


@pytest.mark.parametrize(
    ("place", "says"),
    [
        ("bucket/runs", "is no URL"),
        ("s3://me:secret@bucket/runs", "must not hold a key"),
        ("s3://bucket/runs?secret=1", "must not hold a key"),
        ("nothing-knows-this://bucket/runs", "cannot be opened"),
    ],
)
def test_a_place_where_no_archive_can_be_is_named(place: str, says: str) -> None:
    with pytest.raises(StoreError, match=says) as raised:
        require_place(place)
    assert "\n" not in str(raised.value)


def test_a_backup_names_the_same_url(store: Store, url: str, tmp_path: Path) -> None:
    archive_round(store, 1, url)
    with store.transaction():
        for row in store.rows("SELECT number FROM policy"):
            path = store.path.parent / f"policies/{row['number']:04d}"
            path.mkdir(parents=True)
            (path / "model.safetensors").touch()
            store.connection.execute(
                "UPDATE policy SET path = ? WHERE number = ?", (f"policies/{path.name}", row["number"])
            )
    before = list(round_samples(store, 1))
    back_up(store, store.path.parent, tmp_path / "copy", Console(quiet=True))
    copied = open_store(tmp_path / "copy")
    assert list(round_samples(copied, 1)) == before
    copied.close()


def test_the_command_archives_to_a_url_and_refuses_a_path(store: Store, tmp_path: Path) -> None:
    place = f"file://{tmp_path}/bucket"
    said = run_command("archive", store.path.parent, "--older-than", 0, "--to", place).stdout
    assert f"of 2 rounds moved to {place}" in said
    assert (tmp_path / "bucket" / "round-000001.parquet").is_file()
    refused = run_command("archive", store.path.parent, "--older-than", 0, "--to", str(tmp_path), check=None)
    assert refused.returncode != 0
    assert "is no URL" in refused.stderr
