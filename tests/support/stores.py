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
from store.gate import GateTrial, record_trial
from store.rounds import Policy, add_policy, latest_round, next_policy_number, record_decision
from store.summary import summarise_round
from tests.support.command_line import PROJECT, run_new_program

FIXTURE = PROJECT / "tests" / "fixtures" / "store_m001.db"


def finished_run(folder: Path) -> Path:
    """Two rounds: 8 held-out questions, 64 samples, 6 pairs, 4 policies."""
    shutil.copy(FIXTURE, folder / "store.db")
    open_store(folder).close()
    return folder


def shrink_last_round(run_dir: Path, best: int | None = None, alpha: float = 0.5) -> int:
    """Have the gate reject the last round's candidate and accept a shrunk one, which answers as the candidate did.

    `best` is the best policy afterwards, the shrunk one where it is left out. Returns the shrunk policy's number.
    """
    store = open_store(run_dir)
    round_, shrunk = latest_round(store), next_policy_number(store)
    assert round_ is not None
    assert round_.candidate_policy is not None
    serving, trained, best = round_.serving_policy, round_.candidate_policy, shrunk if best is None else best
    path = f"policies/{shrunk:04d}"
    with store.transaction():
        add_policy(store, Policy(shrunk, serving, "shrunk", f"{shrunk:064d}", path, {}, trained, alpha))
        columns = [row["name"] for row in store.rows("SELECT name FROM pragma_table_info('evaluation')")]
        others = ", ".join(name for name in columns if name not in ("id", "policy"))
        copied = f"INSERT INTO evaluation (policy, {others}) SELECT ?, {others} FROM evaluation WHERE policy = ?"
        store.connection.execute(copied, (shrunk, trained))
        record_trial(store, round_.number, GateTrial(trained, serving, 500, -0.03, 0.01, False, False, "fell"))
        record_trial(store, round_.number, GateTrial(shrunk, serving, 500, 0.01, 0.01, True, best == shrunk, "held"))
        reason = "fell; shrunk held"
        record_decision(store, round_.number, "accepted", reason, serving, candidate=shrunk, best=best)
        summarise_round(store, round_.number)
    store.close()
    return shrunk


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
