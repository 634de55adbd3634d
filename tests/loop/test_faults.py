"""Signals, full disks, read-only directories, damaged files, odd clocks: go on or stop with a clear line."""

import json
import os
import pty
import re
import resource
import select
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from loop.commands.exits import run_command_line
from loop.terminal.live_view import LiveConsole
from store import StoreError, open_store
from store.lock import lock_holder, run_lock
from store.questions import find_questions, load_image
from tests.support.command_line import PROJECT, run_command, run_new_program
from tests.support.forked import Forked, run_forked, until
from tests.support.scripted_run import Script, run_scripted, scripted_config

pytestmark = pytest.mark.heavy

FIXTURES = PROJECT / "tests" / "fixtures"


def run_with_fault(folder: Path, fault: str = "none", limit: int = 0) -> None:
    """A scripted run in this process that something happens to; ends as the command line does."""
    config = scripted_config(folder, run={"rounds": 3 if fault == "a round more" else 2})
    commits = 0

    def reached(_: str) -> None:
        nonlocal commits
        commits += 1
        if fault in ("SIGTERM", "SIGHUP") and commits == 30:
            os.kill(os.getpid(), signal.Signals[fault])
        if fault == "SIGINT twice" and commits in (30, 31):
            os.kill(os.getpid(), signal.SIGINT)

    if fault == "full disk":
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    run_command_line(lambda: run_scripted(folder / "run", config, reached))


def scripted(folder: Path, *fault: object) -> "subprocess.CompletedProcess[str]":
    return run_forked(run_with_fault, folder, *fault, check=None)


def content_of(folder: Path) -> dict[str, list[Any]]:
    return {
        "sample": rows_of(folder, 'SELECT round, question, author, "index", text FROM sample ORDER BY 1, 2, 3, 4'),
        "policy": rows_of(folder, "SELECT number, sha256, deleted IS NULL FROM policy ORDER BY 1"),
        "whole": rows_of(folder, "PRAGMA integrity_check"),
    }


def rows_of(folder: Path, sql: str) -> list[Any]:
    connection = sqlite3.connect(folder / "run" / "store.db")
    found = connection.execute(sql).fetchall()
    connection.close()
    return found


@pytest.fixture(scope="module")
def unbroken() -> Iterator[dict[str, list[Any]]]:
    with tempfile.TemporaryDirectory() as folder:
        run_forked(run_with_fault, Path(folder))
        yield content_of(Path(folder))


@pytest.mark.parametrize(
    ("fault", "more", "code", "line"),
    [
        ("SIGTERM", (), 0, ""),
        ("SIGHUP", (), 0, ""),
        ("SIGINT twice", (), 130, "interrupted; what was committed is kept"),
        ("full disk", (1_400_000,), 1, "the disk is full or failing"),
    ],
)
def test_a_fault_is_one_line_and_the_run_ends_the_same_later(
    fault: str, more: tuple[int, ...], code: int, line: str, unbroken: dict[str, list[Any]], tmp_path: Path
) -> None:
    done = scripted(tmp_path, fault, *more)
    assert done.returncode == code, done.stderr
    assert line in done.stderr
    assert "Traceback" not in done.stderr
    broken = content_of(tmp_path)
    assert broken["whole"] == [("ok",)]
    assert len(broken["sample"]) < len(unbroken["sample"])
    run_forked(run_with_fault, tmp_path)
    assert content_of(tmp_path) == unbroken


def run_without_hangup(folder: Path) -> None:
    """A run as `nohup` starts it."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    run_with_fault(folder, "SIGHUP")


def test_a_hangup_that_was_ignored_from_the_start_stays_ignored(unbroken: dict[str, list[Any]], tmp_path: Path) -> None:
    run_forked(run_without_hangup, tmp_path)
    assert content_of(tmp_path) == unbroken


def run_on_a_terminal(folder: Path) -> None:
    """A scripted run with its live view; after its 30th crash point it goes on once the file `go` is there."""
    points = 0

    def reached(_: str) -> None:
        nonlocal points
        points += 1
        if points == 30:
            (folder / "ready").touch()
            while not (folder / "go").exists():
                time.sleep(0.01)

    def work() -> None:
        with LiveConsole(folder / "run", rounds=2) as console:
            run_scripted(folder / "run", scripted_config(folder), reached, Script(reporter=console))

    (folder / "run").mkdir()
    run_command_line(work)


def close_its_terminal(folder: Path) -> None:
    """Start the run on a terminal of its own, close that in the middle of the run, and print how the run ended."""
    pid, terminal = pty.fork()
    if pid == 0:
        sys.stdout, sys.stderr = (os.fdopen(descriptor, "w", closefd=False) for descriptor in (1, 2))
        try:
            run_on_a_terminal(folder)
        except SystemExit as end:
            os._exit(int(end.code or 0))
        except BaseException:
            (folder / "error").write_text(traceback.format_exc())
            os._exit(99)
        os._exit(0)
    while not (folder / "ready").exists():
        if select.select([terminal], [], [], 0.01)[0]:
            os.read(terminal, 1 << 16)
    os.close(terminal)
    (folder / "go").touch()
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))


def test_closing_the_terminal_stops_after_the_batch_in_flight(unbroken: dict[str, list[Any]], tmp_path: Path) -> None:
    done = run_forked(close_its_terminal, tmp_path)
    error = tmp_path / "error"
    assert done.stdout == "0\n", error.read_text() if error.exists() else ""
    assert rows_of(tmp_path, "SELECT end_reason FROM session") == [("stopped",)]
    assert "stopping after the batch in flight" in (tmp_path / "run" / "run.log").read_text()
    run_forked(run_with_fault, tmp_path)
    assert content_of(tmp_path) == unbroken


LAST_ACCEPTED = "SELECT candidate_policy FROM round WHERE decision = 'accepted' ORDER BY number DESC LIMIT 1"


@pytest.fixture(scope="module")
def backward_clock(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library that makes the clock of a process run backwards."""
    built = tmp_path_factory.mktemp("clock") / "backward_clock.so"
    source = PROJECT / "tests" / "support" / "backward_clock.c"
    subprocess.run(["gcc", "-shared", "-fPIC", "-O2", "-o", built, source, "-ldl"], check=True)
    return built


@pytest.mark.heavy
@pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed")
def test_a_clock_that_runs_backwards_changes_nothing_that_counts(
    unbroken: dict[str, list[Any]], backward_clock: Path, tmp_path: Path
) -> None:
    done = run_new_program("whole_run", tmp_path, env={**os.environ, "LD_PRELOAD": str(backward_clock)})
    assert done.returncode == 0, done.stderr
    assert content_of(tmp_path) == unbroken
    times = [row[0] for row in rows_of(tmp_path, "SELECT finished FROM round ORDER BY number")]
    assert times == sorted(times, reverse=True)
    state = json.loads(run_command("status", tmp_path / "run", "--json", check=3).stdout)
    assert state["phase"] == "done"


def weights_of_last_accepted(run_dir: Path) -> Path:
    """The directory of the policy that the next round goes on from."""
    (number,) = rows_of(run_dir.parent, LAST_ACCEPTED)[0]
    return run_dir / "policies" / f"{number:04d}"


def test_weights_deleted_by_hand_stop_the_run_until_restored(tmp_path: Path) -> None:
    run_forked(run_with_fault, tmp_path)
    weights = weights_of_last_accepted(tmp_path / "run")
    weights.rename(tmp_path / "aside")
    done = scripted(tmp_path, "a round more")
    assert done.returncode == 1
    assert "cannot be read" in done.stderr and "restore it" in done.stderr  # noqa: PT018
    assert "Traceback" not in done.stderr
    assert f"{weights} holds no weights" in run_command("check", tmp_path / "run", check=1).stdout
    (tmp_path / "aside").rename(weights)
    run_forked(run_with_fault, tmp_path, "a round more")
    state = json.loads(run_command("status", tmp_path / "run", "--json", check=3).stdout)
    assert (state["round"], state["phase"]) == (3, "done")


def test_weights_that_were_altered_are_never_served(tmp_path: Path) -> None:
    run_forked(run_with_fault, tmp_path)
    file = weights_of_last_accepted(tmp_path / "run") / "model.safetensors"
    file.write_text(file.read_text()[:-1] + "?")
    done = scripted(tmp_path, "a round more")
    assert done.returncode == 1
    assert "they were altered" in done.stderr
    assert "Traceback" not in done.stderr


def run_with_another_sampler(folder: Path) -> None:
    """A scripted run whose sampler and learner do not agree."""
    script = Script(sampler_error=-1.0)
    run_command_line(lambda: run_scripted(folder / "run", scripted_config(folder), script=script))


def test_a_sampler_unlike_the_learner_serves_nothing(tmp_path: Path) -> None:
    done = run_forked(run_with_another_sampler, tmp_path, check=1)
    assert re.search(r"sampler and learner differ by \d+\.\d+ nats per token on the probe", done.stderr)
    assert rows_of(tmp_path, "SELECT (SELECT count(*) FROM swap), (SELECT count(*) FROM evaluation)") == [(0, 0)]


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    shutil.copy(FIXTURES / "store_m001.db", tmp_path / "store.db")
    open_store(tmp_path).close()
    return tmp_path


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_database_that_was_cut_short_is_refused(run_dir: Path, share: float) -> None:
    size = (run_dir / "store.db").stat().st_size
    os.truncate(run_dir / "store.db", int(size * share))
    for command in ("log", "status", "check"):
        done = run_command(command, run_dir, check=1)
        assert "damaged" in done.stderr
        assert "Traceback" not in done.stderr
    with pytest.raises(StoreError, match="is damaged"):
        open_store(run_dir)


def test_a_damaged_page_is_named_by_check(run_dir: Path) -> None:
    connection = sqlite3.connect(run_dir / "store.db")
    page = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'evaluation'").fetchone()[0]
    connection.close()
    with (run_dir / "store.db").open("r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(b"\xff" * 4096)
    done = run_command("check", run_dir, check=1)
    assert done.stdout.startswith("store.db: ")
    assert "Traceback" not in done.stderr


def write_and_die(run_dir: Path) -> None:
    """One committed transaction, one that is not, and a kill."""
    store = open_store(run_dir)
    with store.transaction():
        store.connection.execute("UPDATE round SET reason = 'kept'")
    store.connection.execute("BEGIN")
    store.connection.execute("UPDATE round SET reason = 'lost'")
    os.kill(os.getpid(), signal.SIGKILL)


def test_what_a_killed_writer_left_in_the_wal_is_there(run_dir: Path) -> None:
    assert run_forked(write_and_die, run_dir, check=None).returncode == -signal.SIGKILL
    assert (run_dir / "store.db-wal").stat().st_size > 0
    store = open_store(run_dir)
    assert {row["reason"] for row in store.rows("SELECT reason FROM round")} == {"kept"}
    store.close()


@pytest.mark.skipif(os.geteuid() == 0 and shutil.which("setpriv") is None, reason="root may write anywhere")
def test_a_read_only_directory_can_be_viewed_and_refuses_a_run() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copy(FIXTURES / "store_m001.db", folder / "store.db")
        open_store(folder).close()
        (folder / "lock").touch()
        for path in (*folder.iterdir(), folder):
            path.chmod(0o555 if path.is_dir() else 0o444)
        # Root may write anywhere; without this one capability it may not.
        humbly = ["setpriv", "--bounding-set=-dac_override", "--inh-caps=-dac_override"] if os.geteuid() == 0 else []
        for command, code in (("log", 0), ("status", 3)):
            done = subprocess.run(
                [*humbly, sys.executable, str(PROJECT / "run_loop.py"), command, name],
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == code, done.stderr
        done = subprocess.run(
            [*humbly, sys.executable, "-m", "tests.support.programs.take_lock", name],
            cwd=PROJECT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert "PermissionError" in done.stderr
        folder.chmod(0o755)


def test_a_run_survives_a_move_and_the_loss_of_image_files(run_dir: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere" / "run"
    moved.mkdir(parents=True)
    (run_dir / "store.db").rename(moved / "store.db")
    store = open_store(moved)
    question = find_questions(store, "id = 1")[0]
    assert load_image(store, question.images[0]).size == (64, 64)
    store.close()
    assert run_command("log", moved).stdout.count("accepted") == 3


def test_a_number_left_in_the_lock_file_locks_nothing(tmp_path: Path) -> None:
    (tmp_path / "lock").write_text("1\n")
    assert lock_holder(tmp_path) is None
    with run_lock(tmp_path):
        assert lock_holder(tmp_path) == os.getpid()
    assert lock_holder(tmp_path) is None


def ask_forever(run_dir: Path) -> None:
    print("asking", flush=True)
    while True:
        lock_holder(run_dir)


def test_asking_for_the_lock_holder_blocks_no_controller(tmp_path: Path) -> None:
    with run_lock(tmp_path):
        pass
    process = Forked(ask_forever, tmp_path)
    until(lambda: process.stdout() == "asking\n", process)
    deadline = time.monotonic() + 2
    while time.monotonic() < deadline:
        with run_lock(tmp_path):
            pass
    process.kill()
