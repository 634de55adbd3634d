"""Opening the store: one SQLite file in WAL mode, one writer, any number of readers."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlite_utils import Database

from store.migrations import MIGRATIONS

FILE_NAME = "store.db"
BUSY_TIMEOUT_S = 60.0
APPLICATION_ID = 0x52544348
"""'RTCH' in the file's header: a database of another program is refused, not repaired."""


class StoreError(Exception):
    """The store cannot be opened or does not hold what was asked for."""


class Store:
    """The open store. Reads are plain SQL; writes go through `transaction`, all or nothing."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self.path = path
        self.db = Database(connection)

    def rows(self, sql: str, *parameters: Any) -> list[sqlite3.Row]:
        """Every row of a query."""
        cursor = self.db.conn.execute(sql, parameters)
        cursor.row_factory = sqlite3.Row
        return cursor.fetchall()

    def row(self, sql: str, *parameters: Any) -> sqlite3.Row | None:
        """The first row of a query, or None."""
        rows = self.rows(sql, *parameters)
        return rows[0] if rows else None

    def value(self, sql: str, *parameters: Any) -> Any:
        """The first column of the first row of a query, or None."""
        row = self.row(sql, *parameters)
        return None if row is None else row[0]

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Everything inside is committed together, or nothing of it; an inner one joins the outer.

        The write lock is taken at the start, so a second writer waits its turn instead of failing.
        """
        if self.db.conn.in_transaction:
            yield
            return
        self.db.conn.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self.db.conn.rollback()
            raise
        self.db.conn.commit()

    def close(self) -> None:
        """Close the file; what was committed stays."""
        self.db.close()


def open_store(run_dir: Path, *, create: bool = False) -> Store:
    """Open `run_dir/store.db`, applying pending migrations.

    Raises StoreError where there is no store (unless `create`), where the file is not a store, or
    where a newer version of this program wrote it.
    """
    path = run_dir / FILE_NAME
    if not path.exists() and not create:
        raise StoreError(f"{run_dir} holds no run ({FILE_NAME} is missing); start one with 'run'")
    try:
        connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S)
        new = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0
        if not new and connection.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
            raise StoreError(f"{path} is a database of another program; give another --run-dir")
        connection.execute("PRAGMA foreign_keys = ON")
        store = Store(connection, path)
        _migrate(store, new)
    except sqlite3.DatabaseError as error:
        raise StoreError(f"{path} cannot be opened as a store: {error}") from error
    return store


def _migrate(store: Store, new: bool) -> None:
    known = {migration.name for migration in MIGRATIONS.pending(Database(memory=True))}
    applied = {migration.name for migration in MIGRATIONS.applied(store.db)}
    if unknown := sorted(applied - known):
        raise StoreError(
            f"{store.path} was written by a newer version of ratchet-loop (it has {unknown[-1]}); upgrade to read it"
        )
    if applied == known:
        return
    if new:
        store.db.conn.execute("PRAGMA journal_mode = WAL")
        store.db.conn.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    MIGRATIONS.apply(store.db)


def now() -> str:
    """The present moment as the store writes it: UTC, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def as_json(value: Any) -> str:
    """Canonical JSON: equal values give equal text."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
