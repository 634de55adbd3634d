"""Errors of the store. Each is shown to the user as one line."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ratchet_error import RatchetError


class StoreError(RatchetError):
    """The store cannot be opened or does not hold what was asked for."""


class NoRunError(StoreError):
    """There is no run in the directory that was named."""


MOST_SAID = 200
"""Most characters of SQLite's message: for a broken view it contains the whole view."""


class StoreDamagedError(StoreError):
    """The store's bytes are not those that were written: a failing disk, or a copy that was cut short."""

    def __init__(self, path: Path, found: object) -> None:
        self.found = " ".join(str(found).split())[:MOST_SAID]
        super().__init__(
            f"{path} is damaged ({self.found}); 'check {path.parent}' lists the damage; put a backup in its place"
            " ('backup' makes them)"
        )


DAMAGE_CODES = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
NOT_TEXT = "Could not decode to UTF-8"
"""The sqlite3 module's message, without an error code, for a text that is not UTF-8."""


@contextmanager
def damage_named(path: Path) -> Iterator[None]:
    """Raise StoreDamagedError if SQLite finds that the file is damaged; other errors pass."""
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", None)
        if str(error).startswith(NOT_TEXT) or (code is not None and code & 0xFF in DAMAGE_CODES):
            raise StoreDamagedError(path, error) from error
        raise
