"""The engines of a session that has several: the figures that `status` and `serve` show."""

import sqlite3
from collections.abc import Sequence

from store.database import Store, now

Row = tuple[int, str, int, str, str | None, int, int, float, int, str]
"""(number, host, pid, state, sha256 served, chains, tokens, tokens per second, restarts, note)"""


def record_engines(store: Store, session: int, engines: Sequence[Row]) -> None:
    """Replace the session's earlier figures by these, in one transaction."""
    with store.transaction():
        store.connection.executemany(
            "INSERT OR REPLACE INTO engine (session, number, host, pid, state, sha256, chains, tokens, tokens_per_s,"
            " restarts, note, updated) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [(session, *engine, now()) for engine in engines],
        )


def latest_engines(store: Store) -> list[sqlite3.Row]:
    """The engines of the latest session that had any, each with the policy that it serves (NULL: none, or base weights
    of another run)."""
    rows: list[sqlite3.Row] = store.rows(
        "SELECT engine.*, (SELECT max(number) FROM policy WHERE policy.sha256 = engine.sha256) AS policy FROM engine"
        " WHERE session = (SELECT max(id) FROM session WHERE command = 'run') ORDER BY number"
    )
    return rows
