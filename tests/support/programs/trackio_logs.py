"""Sends a run's reports to Trackio twice, and prints what its database holds."""

import json
import os
import sys
from pathlib import Path

from store import open_store


def main(run_dir: Path, folder: Path) -> None:
    """Trackio reads its folder from the environment when it is imported."""
    os.environ["TRACKIO_DIR"] = str(folder / "trackio")
    from tests.support.trackers import send_reports

    store = open_store(run_dir, read_only=True)
    for _ in range(2):
        send_reports(folder, store, "trackio")
    from trackio.sqlite_storage import SQLiteStorage

    (name,) = SQLiteStorage.get_runs("ratchet")
    print(json.dumps(SQLiteStorage.get_logs("ratchet", name)))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
