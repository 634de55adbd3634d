"""A small finished run for tests of what reads it: what an early version wrote, brought up to date."""

import contextlib
import io
import json
import shutil
import sqlite3
import subprocess
from pathlib import Path

import run_loop
from store import open_store
from tests.support.command_line import PROJECT, run_new_program

FIXTURE = PROJECT / "tests" / "fixtures" / "store_m001.db"


def finished_run(folder: Path) -> Path:
    """Two rounds: 8 held-out questions, 64 samples, 6 pairs, 4 policies."""
    shutil.copy(FIXTURE, folder / "store.db")
    open_store(folder).close()
    return folder


def change(run_dir: Path, *statements: str, parameters: tuple[object, ...] = ()) -> None:
    """Change rows of a store behind its back."""
    connection = sqlite3.connect(run_dir / "store.db")
    for statement in statements:
        connection.execute(statement, parameters if "?" in statement else ())
    connection.commit()
    connection.close()


def run_here(*arguments: object, check: int = 0) -> subprocess.CompletedProcess[str]:
    """The command line within this process, for commands that only read: no start to wait for."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    texts = [str(argument) for argument in arguments]
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            run_loop.main(texts)
        except SystemExit as end:
            code = int(end.code or 0)
    assert code == check, f"exit {code}\n{out.getvalue()[-3000:]}\n{err.getvalue()[-3000:]}"
    return subprocess.CompletedProcess(texts, code, out.getvalue(), err.getvalue())


def modules_of(*arguments: object, check: int = 0) -> set[str]:
    """The modules that a command has loaded when it ends, with an exit code that is expected."""
    done = run_new_program("modules_of_command", *arguments, input="")
    assert done.returncode == check, done.stderr[-3000:]
    names: list[str] = json.loads(done.stderr.splitlines()[-1])
    return set(names)
