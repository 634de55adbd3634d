"""A small finished run for tests of what reads it: what an early version wrote, brought up to date."""

import shutil
import sqlite3
from pathlib import Path

from store import open_store

FIXTURE = Path(__file__).parent / "fixtures" / "store_m001.db"


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
