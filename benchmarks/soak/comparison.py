"""The content of a run, and its differences from an unbroken run's."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from policies.weights import weights_sha256
from tests.support.run_content import CONTENT

SHOWN = 300
"""Characters of a difference."""


def content(run_dir: Path) -> dict[str, list[Any]]:
    """Texts, answers, pairs, decisions and the rest of the store, the weights on disk and the log file.

    The sampler's log-probabilities are left out: their seventh digit depends on the other requests of a batch.
    """
    with closing(sqlite3.connect(f"file:{run_dir / 'store.db'}?mode=ro", uri=True, timeout=60)) as connection:
        found = {name: connection.execute(sql.replace("logprob, ", "")).fetchall() for name, sql in CONTENT.items()}
    policies = run_dir / "policies"
    found["weights on disk"] = sorted(
        (path.name, weights_sha256(path)) for path in policies.iterdir() if not path.is_symlink()
    )
    found["current"] = [(policies / "current").readlink().name]
    lines = (run_dir / "rounds.jsonl").read_text().splitlines()
    found["rounds.jsonl"] = [(json.loads(line)["round"],) for line in lines]
    return found


def differences(found: dict[str, list[Any]], expected: dict[str, list[Any]]) -> list[str]:
    """One line per part of the content that differs from the expected one, with its first differing row."""
    lines = []
    for name, rows in expected.items():
        if found[name] == rows:
            continue
        others = [(mine, theirs) for mine, theirs in zip(found[name], rows, strict=False) if mine != theirs]
        first = f"{others[0][0]!r:.{SHOWN}} in place of {others[0][1]!r:.{SHOWN}}" if others else "rows at the end"
        lines.append(f"{name}: {len(found[name])} rows in place of {len(rows)}; {first}")
    return lines


def state_of(run_dir: Path) -> tuple[str, int]:
    """The run's phase ("begin" before its first round), and its number of sessions."""
    try:
        with closing(sqlite3.connect(f"file:{run_dir / 'store.db'}?mode=ro", uri=True, timeout=10)) as connection:
            (sessions,) = connection.execute("SELECT count(*) FROM session").fetchone()
            row = connection.execute("SELECT number, phase FROM round ORDER BY number DESC LIMIT 1").fetchone()
    except sqlite3.Error:
        return "begin", 0
    return (f"{row[0]} {row[1]}" if row else "begin"), sessions
