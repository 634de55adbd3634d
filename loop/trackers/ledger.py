"""What was sent to a tracker that cannot be asked."""

import os
from pathlib import Path


class Ledger:
    """A file with a line for each report, written before it is sent: a kill in between costs the report, which the
    store still has; sent twice it would stand twice in the tracker for good.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._names = set(path.read_text(encoding="utf-8").split()) if path.exists() else set()

    def __contains__(self, name: str) -> bool:
        return name in self._names

    def add(self, name: str) -> None:
        """Enter a report. The line break comes first, so that half a line of a crash spoils no other."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(f"\n{name}")
            file.flush()
            os.fsync(file.fileno())
        self._names.add(name)
