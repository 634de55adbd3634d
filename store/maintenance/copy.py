"""A consistent copy of the store while others write to it: SQLite's online backup."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from store.database import Store
from store.errors import damage_named

STEP_PAGES = 2048
"""Pages (of 16 KiB) between two calls of `progress`."""


def copy_store(store: Store, target: Path, progress: Callable[[int, int], object] = lambda left, total: None) -> None:
    """Write the store to the new file `target`; `progress` receives the pages left and in all.

    Readers and a writer do not wait for it. Raises StoreDamagedError if the file is damaged.
    """
    with damage_named(store.path), store.snapshot(), closing(sqlite3.connect(target)) as copy:
        store.value("SELECT count(*) FROM sqlite_master")  # the first read fixes the snapshot
        store.connection.backup(copy, pages=STEP_PAGES, progress=lambda _, left, total: progress(left, total))
