"""Opening the store: one SQLite file in WAL mode, one writer, any number of readers."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cached_property
from json.encoder import encode_basestring
from pathlib import Path
from typing import TYPE_CHECKING, Any

from store.errors import NoRunError, StoreDamagedError, StoreError, damage_named
from store.schema.migrations import MIGRATIONS

if TYPE_CHECKING:
    from sqlite_utils import Database

FILE_NAME = "store.db"
OF_A_RUN = ("policies", "rounds.jsonl")
"""Files that exist only in the directory of a run with a store."""
BUSY_TIMEOUT_S = 60.0
"""Seconds to wait outside of transactions: opening, and reading during a checkpoint."""

POLL_S = 0.2
"""Seconds between two attempts to lock the store; Ctrl-C is noticed between them."""

SAY_AFTER_S, SAY_EVERY_S = 2.0, 30.0
"""Seconds after which a waiting transaction says so for the first time, and between later messages."""

PAGE_BYTES = 16384
"""Rows have a few hundred bytes, so large pages waste less: 4 KiB wastes 8 bytes per sample more, 8 KiB 1.4."""

CACHE_KIB = 64 * 1024
"""SQLite's page cache: holds the indices of the rounds that are being written."""

FULL = re.compile("is full|disk I/O error")
"""SQLite's messages for a full disk."""

OPENED: set[Path] = set()
"""The stores that this process has opened: they are checked for damage after an unexpected error."""

APPLICATION_ID = 0x52544348
"""'RTCH' in the file's header: a database of another program is refused, not repaired."""


CrashPoint = Callable[[str], None]
"""Called at named moments at which a kill must do no harm; tests kill the process there."""


Say = Callable[[str], None]
"""Receives a line for the user."""


def ignore(_: str) -> None:
    """Do nothing: the crash point of a real run, and a receiver of unwanted lines."""


class Store:
    """The open store. Reads are plain SQL; writes go through `transaction`, all or nothing."""

    def __init__(
        self, connection: sqlite3.Connection, path: Path, crash_point: CrashPoint = ignore, say: Say = ignore
    ) -> None:
        self.path = path
        self.connection = connection
        self.crash_point = crash_point
        self._say = say
        self._interrupted = False
        self._file = _identity(path)

    @cached_property
    def db(self) -> Database:
        """The same connection through sqlite-utils. It loads in seconds, so commands that only read do not use it."""
        from sqlite_utils import Database

        return Database(self.connection)

    def stream(self, sql: str, *parameters: Any) -> Iterator[sqlite3.Row]:
        """The rows of a query one by one, for results that should not be held in memory.

        Raises StoreDamagedError if the file is damaged.
        """
        cursor = self.connection.cursor()
        cursor.row_factory = sqlite3.Row
        with damage_named(self.path):
            yield from cursor.execute(sql, parameters)

    def rows(self, sql: str, *parameters: Any) -> list[sqlite3.Row]:
        """Every row of a query."""
        return list(self.stream(sql, *parameters))

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
        """Commit everything inside together or not at all; an inner transaction joins the outer one.

        The write lock is taken at the start. A second writer waits, and says so, as long as another process holds
        the store. Raises StoreDamagedError if the file is damaged.
        """
        if self.connection.in_transaction:
            yield
            return
        self._require_in_place()
        with damage_named(self.path):
            try:
                self._begin()
                yield
                self.crash_point("before commit")
            except BaseException:
                self.connection.rollback()
                raise
            self.connection.commit()
        self.crash_point("after commit")

    def _require_in_place(self) -> None:
        """Raise StoreError if the path no longer names the open file: what is written would be lost."""
        if _identity(self.path) != self._file:
            raise StoreError(
                f"{self.path} was moved, deleted or replaced while this process worked on it, so it stops; put the"
                " store (or its directory) back, or go on from where it is now with 'run --run-dir DIR'"
            )

    def _begin(self) -> None:
        started, say_after = time.monotonic(), SAY_AFTER_S
        self.connection.execute(f"PRAGMA busy_timeout = {POLL_S * 1000:.0f}")
        try:
            while not self._try_to_begin():
                if self._interrupted:
                    raise KeyboardInterrupt
                waited = time.monotonic() - started
                if waited >= say_after:
                    say_after = waited + SAY_EVERY_S
                    self._say(f"{self.path} is locked by another process ({waited:.0f} s so far); waiting for it")
        except KeyboardInterrupt:
            # After a Ctrl-C, what is recorded while the process ends does not wait again.
            self._interrupted = True
            raise
        finally:
            self.connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_S * 1000:.0f}")
        if say_after > SAY_AFTER_S:
            self._say(f"{self.path} is free again after {time.monotonic() - started:.0f} s; going on")

    def _try_to_begin(self) -> bool:
        try:
            self.connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                raise
            return False
        return True

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """All queries inside see one moment, whatever a run commits meanwhile."""
        self.connection.execute("BEGIN")
        try:
            yield
        finally:
            self.connection.rollback()

    def close(self) -> None:
        """Close the file."""
        self.connection.close()


def _identity(path: Path) -> tuple[int, int] | None:
    """Device and inode of a file, which differ for another file of the same name; None if there is no file."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def open_store(
    run_dir: Path,
    *,
    create: bool = False,
    read_only: bool = False,
    crash_point: CrashPoint = ignore,
    say: Say = ignore,
) -> Store:
    """Open `run_dir/store.db`, applying pending migrations.

    With `read_only` nothing is changed, and a store that an older version wrote is refused. `say` gets a line while a
    transaction waits for another process.
    Raises NoRunError if there is no store (unless `create`). Raises StoreError if the directory holds a run
    whose store is gone, if the file is not a store, or if a newer version wrote it. Raises StoreDamagedError
    if it is damaged.
    """
    path = run_dir / FILE_NAME
    if (absent := _absent(path)) is not None:
        _refuse_without_store(run_dir, absent, create=create)
    OPENED.add(path)
    try:
        connection = connect(path, read_only=read_only)
        new = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0
        if new:
            connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
        if not new and connection.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
            raise StoreError(f"{path} is a database of another program; give another --run-dir")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        if not read_only:
            connection.execute("PRAGMA journal_mode = WAL")
        store = Store(connection, path, crash_point, say)
        _migrate(store, new, read_only)
    except sqlite3.OperationalError as error:
        if FULL.search(str(error)):
            raise
        raise StoreError(f"{path} cannot be opened: {error}") from error
    except sqlite3.DatabaseError as error:
        raise StoreDamagedError(path, error) from error
    return store


def _absent(path: Path) -> str | None:
    """The reason, if the store file is missing or was never written; None for a file with content."""
    if not path.exists():
        return f"{FILE_NAME} is missing"
    return None if path.stat().st_size or path.with_name(f"{FILE_NAME}-wal").exists() else f"{FILE_NAME} is empty"


def _refuse_without_store(run_dir: Path, absent: str, *, create: bool) -> None:
    """Refuse to begin a run over one whose store is gone: its weights and its log would be overwritten."""
    left = [name for name in OF_A_RUN if (run_dir / name).exists()]
    if left:
        raise StoreError(
            f"{run_dir} holds a run whose store is gone ({absent}, {' and '.join(left)} are there): put a copy of the"
            f" store back; to begin anew on purpose, delete {' and '.join(str(run_dir / name) for name in left)} or"
            " give another --run-dir"
        )
    if not create:
        raise NoRunError(f"{run_dir} holds no run ({absent}); start one with 'run'")


def connect(path: Path, *, read_only: bool) -> sqlite3.Connection:
    """A connection to the file; its content is not checked."""
    if not read_only:
        return sqlite3.connect(path, timeout=BUSY_TIMEOUT_S)
    # A reader of a WAL database writes the lock file beside it. If it may not, and no writer left
    # anything in a WAL, the file alone is the whole store.
    wal = path.with_name(path.name + "-wal")
    frozen = not os.access(path.parent, os.W_OK) and not wal.exists()
    uri = f"{path.resolve().as_uri()}?{'immutable=1' if frozen else 'mode=ro'}"
    return sqlite3.connect(uri, uri=True, timeout=BUSY_TIMEOUT_S)


def _migrate(store: Store, new: bool, read_only: bool) -> None:
    known = set(MIGRATIONS.names)
    applied = _applied(store)
    if unknown := sorted(applied - known):
        raise StoreError(
            f"{store.path} was written by a newer version of ratchet-loop (it has {unknown[-1]}); upgrade to read it"
        )
    if applied == known:
        return
    if read_only:
        raise StoreError(
            f"{store.path} was written by an older version; 'log {store.path.parent}' brings it up to date once"
            " no process works on the run and its directory may be written"
        )
    if new:
        store.connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    with store.transaction():  # another process may be about to do the same
        MIGRATIONS.apply(store.db)


def _applied(store: Store) -> set[str]:
    if not store.value("SELECT 1 FROM sqlite_master WHERE name = '_sqlite_migrations'"):
        return set()
    return {row["name"] for row in store.rows("SELECT name FROM _sqlite_migrations WHERE migration_set = 'ratchet'")}


def now() -> str:
    """The present moment as the store writes it: UTC, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def now_s() -> int:
    """The present moment in whole seconds since 1970: four bytes, for columns of which there are millions."""
    return int(time.time())


CANONICAL = json.JSONEncoder(sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def as_json(value: Any) -> str:
    """Canonical JSON: equal values give equal text."""
    return CANONICAL.encode(value)


def texts_as_json(texts: Sequence[str]) -> str:
    """The same of a list of texts, in a fifth of the time."""
    return f"[{','.join(map(encode_basestring, texts))}]" if texts else "[]"
