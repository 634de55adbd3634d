"""Two programs that write: nobody keeps the store locked while it reads or decodes, and who meets a lock waits."""

import io
import os
import random
import signal
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from loop.commands.exits import run_command_line
from store import Store, StoreError, open_store
from store.database import ignore
from store.new_questions import NewQuestion, StagedQuestions, add_questions, staged_questions
from store.pairs import NewImportedPair, add_imported_pairs
from store.staging import PIECE_BYTES
from tests.support.forked import Forked, until
from tests.support.scripted_run import Script, run_scripted, scripted_config
from tests.support.stores import finished_run


def question(number: int, *images: bytes) -> NewQuestion:
    return NewQuestion(f"what is {number}?", ["red"], images, "train", "test", "exact", where=f"row {number}")


def bitmap(side: int, seed: int) -> bytes:
    """An uncompressed image of `side` x `side` pixels, three bytes each."""
    buffer = io.BytesIO()
    Image.new("RGB", (side, side), tuple(random.Random(seed).randbytes(3))).save(buffer, format="BMP")
    return buffer.getvalue()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = open_store(finished_run(tmp_path))
    yield opened
    opened.close()


def write_at_once(run_dir: Path) -> None:
    """Write something as another program would; fails where it would have to wait."""
    other = sqlite3.connect(run_dir / "store.db", timeout=0)
    other.execute("UPDATE round SET reason = 'written meanwhile'")
    other.commit()
    other.close()


def questions_while_others_write(run_dir: Path) -> Iterator[NewQuestion]:
    for number in range(3):
        write_at_once(run_dir)
        yield question(number, bitmap(8, number))
    write_at_once(run_dir)


def test_others_write_while_questions_are_read_and_decoded(store: Store, tmp_path: Path) -> None:
    assert add_questions(store, questions_while_others_write(tmp_path)) == 3


def test_others_write_while_imported_pairs_are_read_and_decoded(store: Store, tmp_path: Path) -> None:
    pairs = (
        NewImportedPair(each, "cot", "yes", "no", line)
        for line, each in enumerate(questions_while_others_write(tmp_path))
    )
    assert add_imported_pairs(store, pairs, "pairs.jsonl", "sha") == 3


def test_images_are_stored_in_pieces_and_questions_in_one(tmp_path: Path) -> None:
    commits: list[tuple[int, int]] = []

    def reached(name: str) -> None:
        if name == "after commit":
            commits.append((opened.value("SELECT count(*) FROM image"), opened.value("SELECT count(*) FROM question")))

    opened = open_store(tmp_path, create=True)
    opened.crash_point = reached
    images = [bitmap(2000, seed) for seed in range(5)]
    assert PIECE_BYTES // 3 < len(images[0]) < PIECE_BYTES // 2
    add_questions(opened, [question(number, image) for number, image in enumerate(images)])
    assert commits == [(2, 0), (4, 0), (5, 0), (5, 5)]
    opened.close()


def test_what_a_crash_left_of_an_addition_is_used_by_the_next(tmp_path: Path) -> None:
    def die(name: str) -> None:
        if name == "before commit" and opened.value("SELECT count(*) FROM image") == 3:
            raise SystemExit

    opened = open_store(tmp_path, create=True)
    wanted = [question(number, bitmap(2000, number)) for number in range(3)]
    opened.crash_point = die
    with pytest.raises(SystemExit):
        add_questions(opened, wanted)
    left = (opened.value("SELECT count(*) FROM image"), opened.value("SELECT count(*) FROM question"))
    assert left == (2, 0)
    opened.crash_point = ignore
    assert add_questions(opened, wanted) == 3
    assert opened.value("SELECT count(*) FROM image") == 3
    assert opened.value("SELECT count(*) FROM question_image") == 3
    opened.close()


def test_a_broken_image_at_the_end_leaves_nothing_behind(store: Store) -> None:
    before = store.value("SELECT count(*) FROM image")
    with pytest.raises(StoreError, match="row 9"):
        add_questions(store, [question(1, bitmap(8, 1)), question(9, b"no image")])
    assert store.value("SELECT count(*) FROM image") == before


def add_and_refuse(store: Store, staged: StagedQuestions) -> None:
    with store.transaction():
        assert staged.add() == 1
        raise StoreError("not these")


def test_staged_rows_can_be_refused_in_their_transaction(store: Store) -> None:
    before = store.value("SELECT count(*) FROM question")
    with staged_questions(store, [question(1)]) as staged, pytest.raises(StoreError, match="not these"):
        add_and_refuse(store, staged)
    assert store.value("SELECT count(*) FROM question") == before


def hold_store(run_dir: Path, seconds: float) -> None:
    """Keep the store locked, as a program does that forgot an open transaction."""
    connection = sqlite3.connect(run_dir / "store.db", timeout=60, isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    print("held", flush=True)
    time.sleep(seconds)
    connection.execute("ROLLBACK")


def test_a_transaction_waits_for_a_locked_store_and_says_so(tmp_path: Path) -> None:
    said: list[str] = []
    store = open_store(finished_run(tmp_path), say=said.append)
    holder = Forked(hold_store, tmp_path, 4.0)
    until(lambda: holder.stdout() == "held\n", holder)
    with store.transaction():
        store.connection.execute("UPDATE round SET reason = 'waited'")
    holder.wait()
    assert len(said) == 2
    assert "is locked by another process (2 s so far); waiting for it" in said[0]
    assert "is free again after" in said[1]
    assert store.value("SELECT DISTINCT reason FROM round") == "waited"
    store.close()


def run_beside(folder: Path) -> None:
    """A scripted run that says what it does; it waits after its 20th commit until the file `go` is there."""
    from loop.terminal.console import Console

    commits = 0

    def reached(name: str) -> None:
        nonlocal commits
        commits += name.endswith("after commit")
        if name.endswith("after commit") and commits == 20:
            (folder / "ready").touch()
            while not (folder / "go").exists():
                time.sleep(0.01)

    run_command_line(lambda: run_scripted(folder / "run", scripted_config(folder), reached, Script(reporter=Console())))


def run_that_meets_a_lock(folder: Path, seconds: float) -> tuple[Forked, Forked]:
    """The run, and who holds its store."""
    run = Forked(run_beside, folder)
    until(lambda: (folder / "ready").exists(), run)
    holder = Forked(hold_store, folder / "run", seconds)
    until(lambda: holder.stdout() == "held\n", holder)
    (folder / "go").touch()
    return run, holder


@pytest.mark.heavy
@pytest.mark.parametrize("seconds", [4.0, pytest.param(80.0, marks=pytest.mark.slow)])
def test_a_run_waits_for_a_locked_store_and_goes_on(seconds: float, tmp_path: Path) -> None:
    run, holder = run_that_meets_a_lock(tmp_path, seconds)
    done = run.wait()
    holder.wait()
    assert done.returncode == 0, done.stderr
    assert "is locked by another process" in done.stdout
    assert "is locked by another process" in (tmp_path / "run" / "run.log").read_text()
    store = open_store(tmp_path / "run")
    assert [row["phase"] for row in store.rows("SELECT phase FROM round")] == ["done"] * 3
    store.close()


@pytest.mark.heavy
def test_a_run_waiting_for_a_locked_store_can_be_stopped(tmp_path: Path) -> None:
    run, holder = run_that_meets_a_lock(tmp_path, 60.0)
    until(lambda: "is locked by another process" in run.stdout(), run)
    os.kill(run.pid, signal.SIGINT)
    until(lambda: "stopping after the batch in flight" in run.stdout(), run)
    os.kill(run.pid, signal.SIGINT)
    done = run.wait(timeout=20)
    holder.kill()
    assert done.returncode == 130
    assert "interrupted; what was committed is kept" in done.stderr
