"""What is wrong with a store, or with what is asked of it; each is one line to the user."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class StoreError(Exception):
    """The store cannot be opened or does not hold what was asked for."""


class NoRunError(StoreError):
    """There is no run in the directory that was named."""


MOST_SAID = 200
"""Characters of what SQLite says: of a broken view it says all of its text."""


class StoreDamagedError(StoreError):
    """The store's bytes are not those that were written: a failing disk, or a copy that was cut short."""

    def __init__(self, path: Path, found: object) -> None:
        self.found = " ".join(str(found).split())[:MOST_SAID]
        super().__init__(
            f"{path} is damaged ({self.found}); 'check {path.parent}' tells what of it is; put a backup back ('backup'"
            " makes them)"
        )


DAMAGE_CODES = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
NOT_TEXT = "Could not decode to UTF-8"
"""What the sqlite3 module says, without a code, of a text that is none."""


@contextmanager
def damage_named(path: Path) -> Iterator[None]:
    """Raise StoreDamagedError where SQLite finds that the file is damaged; other errors pass."""
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", None)
        if str(error).startswith(NOT_TEXT) or (code is not None and code & 0xFF in DAMAGE_CODES):
            raise StoreDamagedError(path, error) from error
        raise
