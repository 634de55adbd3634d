"""A store whose bytes were altered is called damaged in one line, by every command that meets it."""

import contextlib
import io
import random
import shutil
import signal
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

import run_loop
from loop.commands.exits import run_command_line
from store import open_store
from store.errors import StoreDamagedError
from store.maintenance.damage import find_damage
from store.questions import find_questions
from tests.support.forked import run_forked
from tests.support.scripted_run import in_process, run_scripted, scripted_config
from tests.support.stores import finished_run

FLIPPED = 40
PATIENCE_S = 60
"""A command that takes longer has lost its way."""


def flip(file: Path, seed: int) -> None:
    """Flip a bit of 40 random bytes."""
    rng, content = random.Random(seed), bytearray(file.read_bytes())
    for _ in range(FLIPPED):
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    file.write_bytes(content)


def outcome(work: Callable[[], object]) -> tuple[int, str, str]:
    """(exit code, output, error output) of a command in this process; an error that is no line is raised."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            work()
        except SystemExit as end:
            code = int(end.code or 0)
    return code, out.getvalue(), err.getvalue()


def ask_of_damaged(folder: Path, first: int, last: int) -> None:
    """For each seed: damage a copy of a finished run, and ask the commands of it; prints how each ended."""
    whole = folder / "whole"
    whole.mkdir()
    run_scripted(whole / "run", scripted_config(whole))
    for seed in range(first, last):
        run_dir = folder / f"damaged{seed}" / "run"
        in_process(lambda: ask_all(whole / "run", run_dir, seed))  # noqa: B023 (called at once)
        shutil.rmtree(run_dir.parent)


def ask_all(whole: Path, run_dir: Path, seed: int) -> None:
    signal.alarm(PATIENCE_S)
    shutil.copytree(whole, run_dir, symlinks=True)
    flip(run_dir / "store.db", seed)
    commands: dict[str, Callable[[], object]] = {
        " ".join(words): lambda words=words: run_loop.main([words[0], str(run_dir), *words[1:]])  # type: ignore[misc]
        for words in (["log"], ["status"], ["show", "question"], ["show", "sample"], ["show", "round", "1"], ["check"])
    }
    config = scripted_config(whole, run={"rounds": 3})
    commands["run"] = lambda: run_command_line(lambda: run_scripted(run_dir, config))
    for name, work in commands.items():
        try:
            code, out, err = outcome(work)
        except Exception as error:
            raise AssertionError(seed, name) from error
        assert code in ((0, 3, 4, 1, 2) if name == "status" else (0, 1, 2)), (seed, name, code, err)
        assert "Traceback" not in out + err, (seed, name)
        assert err.count("\n") <= 1 or name == "run", (seed, name, err)


def test_damage_gives_no_traceback_and_check_reports_it(tmp_path: Path) -> None:
    run_forked(ask_of_damaged, tmp_path, 0, 12)


@pytest.mark.slow
def test_no_command_ends_in_a_traceback_whatever_is_flipped(tmp_path: Path) -> None:
    run_forked(ask_of_damaged, tmp_path, 100, 250)


def damage_text(run_dir: Path) -> None:
    """Make the text of question 1 no UTF-8."""
    connection = sqlite3.connect(run_dir / "store.db")
    connection.execute("UPDATE question SET text = CAST(x'ff41' AS TEXT) WHERE id = 1")
    connection.commit()
    connection.close()


def test_a_text_that_is_no_utf8_is_damage(tmp_path: Path) -> None:
    damage_text(finished_run(tmp_path))
    store = open_store(tmp_path)
    with pytest.raises(StoreDamagedError, match=r"store\.db is damaged .*'check .*backup"):
        find_questions(store, "id = 1")
    with pytest.raises(StoreDamagedError), store.transaction():
        store.connection.execute("SELECT text FROM question WHERE id = 1").fetchall()
    store.close()


def test_a_broken_page_is_damage_in_reading_and_in_writing(tmp_path: Path) -> None:
    finished_run(tmp_path)
    connection = sqlite3.connect(tmp_path / "store.db")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    page = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'evaluation'").fetchone()[0]
    size = connection.execute("PRAGMA page_size").fetchone()[0]
    connection.close()
    with (tmp_path / "store.db").open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xff" * size)
    store = open_store(tmp_path)
    with pytest.raises(StoreDamagedError):
        store.rows("SELECT * FROM evaluation")
    with pytest.raises(StoreDamagedError), store.transaction():
        store.connection.execute("DELETE FROM evaluation")
    assert not store.connection.in_transaction
    store.close()


def test_damage_behind_another_error_is_called_damage(tmp_path: Path) -> None:
    finished_run(tmp_path)
    connection = sqlite3.connect(tmp_path / "store.db")
    connection.execute("UPDATE question SET answers = '[\"red' WHERE id = 1")
    connection.commit()
    connection.close()
    code, _, err = outcome(lambda: run_loop.main(["show", str(tmp_path), "question", "1"]))
    assert code == 1
    assert "store.db is damaged" in err
    assert err.count("\n") == 1


def a_bug(run_dir: Path) -> None:
    open_store(run_dir).close()
    raise KeyError("a bug")


def test_an_error_in_a_whole_run_is_still_a_traceback(tmp_path: Path) -> None:
    finished_run(tmp_path)
    assert list(find_damage(tmp_path / "store.db")) == []
    with pytest.raises(KeyError, match="a bug"):
        run_command_line(lambda: a_bug(tmp_path))
