"""Seconds and memory to ingest a Parquet set with images, by its rows and row groups.

`python -m benchmarks.datasets_source`. Each measurement is a process of its own. `more_mb` is the growth of the peak
while the set is read; torch and the model's tokenizer are loaded before. One JSON object per row.
"""

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.questions import MODEL, measured, peak_mb
from loop.config.load import parse_config
from loop.config.schema import Config
from loop.questions.ingest import ingest
from loop.questions.registry import SOURCES
from loop.terminal.console import Console
from policies.encoding import Encoder
from store import open_store
from store.questions import count_images
from tests.support.scene_sets import write_scenes


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[5_000, 50_000])
    parser.add_argument("--groups", type=int, nargs="+", default=[1_000, 50_000], help="rows of a row group")
    parser.add_argument("--pad", type=int, default=20_000, help="bytes of no meaning after each picture of 300 bytes")
    parser.add_argument("--folder", type=Path, help="where the temporary directory is made")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        for rows in options.rows:
            for group in options.groups:
                folder = Path(name) / f"{rows}-{group}"
                path = folder / "scenes.parquet"
                measured(f"write {rows} rows", lambda: written(path, rows, group, options.pad))  # noqa: B023
                measured(f"ingest {rows} rows", lambda: ingested(path, folder))  # noqa: B023


def written(path: Path, rows: int, group: int, pad: int) -> dict[str, Any]:
    """Write the set."""
    write_scenes(path, rows, group=group, pad=pad)
    return {"group": group, "megabytes": round(path.stat().st_size / 1e6, 1)}


def config_of(path: Path) -> Config:
    """A run of these scenes."""
    columns = {"question": "question", "answer": "answer", "images": "image", "kind": "kind"}
    return parse_config(
        {
            "policy": {"model": str(MODEL)},
            "questions": {"source": "datasets", "path": str(path), "columns": columns},
            "teacher": {"enabled": False},
        },
        "benchmark",
    )


def ingested(path: Path, folder: Path) -> dict[str, Any]:
    """Begin the run: read, check and store its questions."""
    encoder = Encoder(str(MODEL), lambda name: None)  # type: ignore[arg-type, return-value]
    store = open_store(folder, create=True)
    before, started = peak_mb(), time.monotonic()
    ingest(store, config_of(path), SOURCES["datasets"], Console(quiet=True), lambda: encoder)
    figures = {"seconds": round(time.monotonic() - started, 1), "more_mb": round(peak_mb() - before)}
    figures["images"] = count_images(store)
    store.close()
    return figures


if __name__ == "__main__":
    main()
