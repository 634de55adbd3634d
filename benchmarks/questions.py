"""A file of a million questions: time and memory to ingest it and to choose from it: `python -m benchmarks.questions`.

Each measurement is a process of its own, so that its memory is its own. One JSON object a row.
"""

import argparse
import json
import os
import random
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from loop.config.load import parse_config
from loop.config.schema import Config
from loop.questions.ingest import add_file, ingest
from loop.questions.order import ORDERS, choose_questions
from loop.questions.registry import SOURCES
from loop.terminal.console import Console
from policies.encoding import Encoder
from store import open_store
from store.database import as_json, now
from store.rounds import Policy, add_policy, start_round

PROJECT = Path(__file__).resolve().parent.parent
MODEL = PROJECT / "models" / "shapes_2m"
ANSWERS, ASKED = 5_000, 1_000
MORE = 1_000
"""Rows that are added to the run afterwards."""


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where the temporary directory is made")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        write_rows(folder / "questions.jsonl", options.rows, 0)
        write_rows(folder / "more.jsonl", MORE, options.rows)
        megabytes = round((folder / "questions.jsonl").stat().st_size / 1e6)
        say("file", rows=options.rows, megabytes=megabytes)
        measured("ingest", lambda: ingested(folder))
        measured(f"add {MORE} rows", lambda: added(folder))
        for order in ORDERS:
            measured(f"choose {ASKED} by {order}", lambda: chosen(folder, order, options.repeats))  # noqa: B023


def write_rows(path: Path, count: int, first: int) -> None:
    """Rows with a text of about 100 characters, an answer, and no split."""
    rng = random.Random(first)
    words = ("how", "many", "red", "circles", "are", "left", "of", "the", "blue", "square", "in", "picture", "number")
    with path.open("w", encoding="utf-8") as file:
        for number in range(first, first + count):
            text = f"{' '.join(rng.choices(words, k=16))} {number}?"
            file.write(json.dumps({"question": text, "answer": f"answer {rng.randrange(ANSWERS)}"}) + "\n")


def config_of(folder: Path, order: str = "fresh") -> Config:
    """A run of these rows."""
    return parse_config(
        {
            "policy": {"model": str(MODEL)},
            "questions": {"source": "jsonl", "path": str(folder / "questions.jsonl")},
            "sampling": {"questions": ASKED, "order": order},
            "teacher": {"enabled": False},
        },
        "benchmark",
    )


def ingested(folder: Path) -> dict[str, Any]:
    """Begin the run: read, check, store."""
    store, config = open_store(folder, create=True), config_of(folder)
    with store.transaction():
        store.connection.execute(
            "INSERT INTO run (id, seed, configuration, packages, created) VALUES (1, 0, ?, '{}', ?)",
            (as_json(config.model_dump(mode="json")), now()),
        )
        add_policy(store, Policy(0, None, "base", "0" * 64, "base", {}))
    encoder = Encoder(str(MODEL), lambda name: None)  # type: ignore[arg-type, return-value]
    before, started = peak_mb(), time.monotonic()
    ingest(store, config, SOURCES["jsonl"], Console(quiet=True), lambda: encoder)
    figures = {"seconds": round(time.monotonic() - started, 1), "more_mb": round(peak_mb() - before)}
    start_round(store, 0, "done", 0, range(1, 2 * ASKED))
    store.close()
    return figures


def added(folder: Path) -> dict[str, Any]:
    """Add a small file to the large run."""
    store = open_store(folder)
    before, started = peak_mb(), time.monotonic()
    add_file(store, config_of(folder), folder / "more.jsonl", Console(quiet=True))
    store.close()
    return {"seconds": round(time.monotonic() - started, 1), "more_mb": round(peak_mb() - before)}


def chosen(folder: Path, order: str, repeats: int) -> dict[str, Any]:
    """Choose the questions of round 1."""
    store = open_store(folder, read_only=True)
    context: Any = SimpleNamespace(store=store, config=config_of(folder, order))
    before, times = peak_mb(), []
    for _ in range(repeats):
        started = time.monotonic()
        found = choose_questions(context, 1, ASKED)
        times.append(time.monotonic() - started)
    store.close()
    return {
        "seconds": round(statistics.median(times), 2),
        "more_mb": round(peak_mb() - before),
        "sum_of_ids": sum(found),
    }


def measured(what: str, work: Callable[[], dict[str, Any]]) -> None:
    """Say the figures of some work in a process of its own."""
    child = os.fork()
    if child == 0:
        began = time.process_time()
        figures = work()
        say(what, **figures, cpu_seconds=round(time.process_time() - began, 1), process_mb=round(peak_mb()))
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0, what


def peak_mb() -> float:
    """The most memory that this process has taken."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def say(what: str, **figures: Any) -> None:
    """Print one row."""
    print(json.dumps({"what": what, **figures}), flush=True)


if __name__ == "__main__":
    main()
