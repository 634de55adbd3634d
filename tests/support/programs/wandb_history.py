"""Sends a run's reports to W&B twice, offline, and writes the history that its file holds."""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from store import open_store


def contents(log: bytes) -> Iterator[bytes]:
    """The records of LevelDB's log format, after W&B's own head of 7 bytes."""
    at, parts = 7, b""
    while at + 7 < len(log):
        if 32768 - at % 32768 < 7:
            at += 32768 - at % 32768
        length, kind = int.from_bytes(log[at + 4 : at + 6], "little"), log[at + 6]
        parts += log[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):
            yield parts
            parts = b""


def main(run_dir: Path, folder: Path) -> None:
    """W&B reads its mode from the environment."""
    os.environ["WANDB_MODE"] = "offline"
    from tests.support.trackers import send_reports

    store = open_store(run_dir, read_only=True)
    for _ in range(2):
        send_reports(folder, store, "wandb")
    from wandb.proto.wandb_internal_pb2 import Record

    history = []
    for file in sorted((folder / "tracking").glob("wandb/offline-run-*/*.wandb")):
        for content in contents(file.read_bytes()):
            record = Record.FromString(content)
            if record.WhichOneof("record_type") == "history":
                items = record.history.item
                history.append({i.key or "/".join(i.nested_key): json.loads(i.value_json) for i in items})
    (folder / "history.json").write_text(json.dumps(history))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
