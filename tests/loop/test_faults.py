"""Signals, full disks, read-only directories, damaged files, odd clocks: go on or stop with a clear line."""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from store import StoreError, open_store
from store.lock import lock_holder, run_lock
from store.questions import find_questions, load_image
from tests.support.command_line import PROJECT, run_command

FIXTURES = PROJECT / "tests" / "fixtures"

DRIVER = """
import sys, json, resource, signal, time
from pathlib import Path
from tests.support import scripted_run
from store import crash_points
scripted_run.prepare()
folder, fault = Path(sys.argv[1]), sys.argv[2]
config = scripted_run.scripted_config(folder, run={"rounds": 3 if fault == "a round more" else 2})
run_dir = folder / "run"
import run_loop, loop.config.run_identity, loop.session
def go(reached=None):
    scripted_run.run_scripted(run_dir, config, reached)
points = 0
def signalled(name):
    global points
    points += 1
    import os
    if fault == "SIGTERM" and points == 30 or fault == "SIGINT twice" and points in (30, 31):
        os.kill(os.getpid(), signal.SIGTERM if fault == "SIGTERM" else signal.SIGINT)
reached = signalled
if fault == "full disk":
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), resource.RLIM_INFINITY))
if fault == "clock":
    real, start = time.time, time.time()
    time.time = lambda: start - (real() - start) * 1000
    import store.database, store.rounds
    from datetime import UTC, datetime
    for module in (store.database, store.rounds, loop.config.run_identity, loop.session):
        module.now = lambda: datetime.fromtimestamp(time.time(), UTC).isoformat()
run_loop.cli.main = lambda **_: go(reached)
run_loop.main()
"""


def scripted(folder: Path, fault: str, *more: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", DRIVER, str(folder), fault, *map(str, more)],
        env={**os.environ, "PYTHONPATH": str(PROJECT), "TOKENIZERS_PARALLELISM": "false"},
        capture_output=True,
        text=True,
        check=False,
    )


def content_of(folder: Path) -> dict:
    connection = sqlite3.connect(folder / "run" / "store.db")
    sample = 'SELECT round, question, author, "index", text FROM sample ORDER BY 1, 2, 3, 4'
    policy = "SELECT number, sha256, deleted IS NULL FROM policy ORDER BY 1"
    found = {
        "sample": connection.execute(sample).fetchall(),
        "policy": connection.execute(policy).fetchall(),
        "whole": connection.execute("PRAGMA integrity_check").fetchall(),
    }
    connection.close()
    return found


@pytest.fixture(scope="module")
def unbroken() -> Iterator[dict]:
    with tempfile.TemporaryDirectory() as folder:
        done = scripted(Path(folder), "none")
        assert done.returncode == 0, done.stderr
        yield content_of(Path(folder))


@pytest.mark.parametrize(
    ("fault", "more", "code", "line"),
    [
        ("SIGTERM", (), 0, ""),
        ("SIGINT twice", (), 130, "interrupted; what was committed is kept"),
        ("full disk", (1_400_000,), 1, "the disk is full or failing"),
    ],
)
def test_a_fault_ends_in_a_clear_line_and_the_run_goes_on_to_the_same_end(
    fault: str, more: tuple[int, ...], code: int, line: str, unbroken: dict, tmp_path: Path
) -> None:
    done = scripted(tmp_path, fault, *more)
    assert done.returncode == code, done.stderr
    assert line in done.stderr
    assert "Traceback" not in done.stderr
    broken = content_of(tmp_path)
    assert broken["whole"] == [("ok",)]
    assert len(broken["sample"]) < len(unbroken["sample"])
    again = scripted(tmp_path, "none")
    assert again.returncode == 0, again.stderr
    assert content_of(tmp_path) == unbroken


def test_a_clock_that_runs_backwards_changes_nothing_that_counts(unbroken: dict, tmp_path: Path) -> None:
    done = scripted(tmp_path, "clock")
    assert done.returncode == 0, done.stderr
    assert content_of(tmp_path) == unbroken
    state = json.loads(run_command("status", tmp_path / "run", "--json", check=3).stdout)
    assert state["phase"] == "done"


def test_weights_that_were_deleted_by_hand_stop_the_run_until_they_are_back(tmp_path: Path) -> None:
    assert scripted(tmp_path, "none").returncode == 0
    current = (tmp_path / "run" / "policies" / "current").resolve()
    current.rename(tmp_path / "aside")
    done = scripted(tmp_path, "a round more")
    assert done.returncode == 1
    assert "cannot be read" in done.stderr and "restore it" in done.stderr  # noqa: PT018
    assert "Traceback" not in done.stderr
    assert f"{current} holds no weights" in run_command("check", tmp_path / "run", check=1).stdout
    (tmp_path / "aside").rename(current)
    assert scripted(tmp_path, "a round more").returncode == 0
    state = json.loads(run_command("status", tmp_path / "run", "--json", check=3).stdout)
    assert (state["round"], state["phase"]) == (3, "done")


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
    with pytest.raises(StoreError, match="damaged or cut short"):
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


def test_what_a_killed_writer_left_in_the_wal_is_there(run_dir: Path) -> None:
    writer = (
        "import os, sys; from pathlib import Path; from store import open_store\n"
        "s = open_store(Path(sys.argv[1]))\n"
        "with s.transaction(): s.connection.execute(\"UPDATE round SET reason = 'kept'\")\n"
        "s.connection.execute('BEGIN'); s.connection.execute(\"UPDATE round SET reason = 'lost'\")\n"
        "os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", writer, str(run_dir)], cwd=PROJECT, check=False)
    assert (run_dir / "store.db-wal").stat().st_size > 0
    store = open_store(run_dir)
    assert {row["reason"] for row in store.rows("SELECT reason FROM round")} == {"kept"}
    store.close()


@pytest.mark.skipif(os.geteuid() == 0 and shutil.which("setpriv") is None, reason="root may write anywhere")
def test_a_directory_that_may_not_be_written_can_be_read_and_refuses_a_run() -> None:
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
        refused = "import sys; from pathlib import Path; from store import run_lock\n"
        refused += "with run_lock(Path(sys.argv[1])): pass"
        done = subprocess.run(
            [*humbly, sys.executable, "-c", refused, name], cwd=PROJECT, capture_output=True, text=True, check=False
        )
        assert "PermissionError" in done.stderr
        folder.chmod(0o755)


def test_a_run_directory_may_be_moved_and_its_image_files_may_vanish(run_dir: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere" / "run"
    moved.mkdir(parents=True)
    (run_dir / "store.db").rename(moved / "store.db")
    store = open_store(moved)
    question = find_questions(store, "id = 1")[0]
    assert load_image(store, question.images[0]).size == (64, 64)
    store.close()
    assert run_command("log", moved).stdout.count("accepted") == 3


def test_the_number_that_a_crash_left_in_the_lock_file_locks_nothing(tmp_path: Path) -> None:
    (tmp_path / "lock").write_text("1\n")
    assert lock_holder(tmp_path) is None
    with run_lock(tmp_path):
        assert lock_holder(tmp_path) == os.getpid()
    assert lock_holder(tmp_path) is None


def test_asking_who_holds_the_lock_does_not_stop_a_controller_from_starting(tmp_path: Path) -> None:
    asking = "import sys; from pathlib import Path; from store.lock import lock_holder\n"
    asking += "print('asking', flush=True)\nwhile True: lock_holder(Path(sys.argv[1]))"
    with run_lock(tmp_path):
        pass
    process = subprocess.Popen([sys.executable, "-c", asking, str(tmp_path)], cwd=PROJECT, stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    deadline = time.monotonic() + 2
    while time.monotonic() < deadline:
        with run_lock(tmp_path):
            pass
    process.send_signal(signal.SIGKILL)
    process.wait()
