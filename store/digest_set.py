"""A set of digests that takes the same memory at any size."""

import sqlite3
import weakref

CACHE_KIB = 16 << 10


class DigestSet:
    """Digests in a temporary file that SQLite makes in its directory for them (`SQLITE_TMPDIR`) and deletes."""

    def __init__(self) -> None:
        self._connection = sqlite3.connect("", isolation_level=None)
        weakref.finalize(self, self._connection.close)
        self._connection.execute("PRAGMA journal_mode = OFF")
        self._connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        self._connection.execute("CREATE TABLE digest (digest BLOB PRIMARY KEY) WITHOUT ROWID")
        self._connection.execute("BEGIN")

    def add(self, digest: bytes) -> bool:
        """Add a digest; returns whether it is new."""
        added = self._connection.execute("INSERT INTO digest VALUES (?) ON CONFLICT DO NOTHING", (digest,))
        return added.rowcount == 1
