"""A ledger of the reports sent to a tracker that cannot be queried."""

import os
from pathlib import Path


class Ledger:
    """A file with one line per report, written before the report is sent. After a kill in between, the report is
    missing in the tracker (the store has it). The reverse order could send a report twice, which cannot be undone.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._names = set(path.read_text(encoding="utf-8").split()) if path.exists() else set()

    def __contains__(self, name: str) -> bool:
        return name in self._names

    def add(self, name: str) -> None:
        """Add a report. The line break comes first, so that half a line left by a crash does not damage the next."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(f"\n{name}")
            file.flush()
            os.fsync(file.fileno())
        self._names.add(name)
