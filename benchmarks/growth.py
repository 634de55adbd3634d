"""Cost as work grows: seconds per round at 1, 4, 16 and 64 times the questions, and of the 200th round.

`python -m benchmarks.growth`

Everything is real but vLLM and TRL: their places have an engine and a learner without arithmetic
(`tests/support/scripted_run.py`). So the seconds are those of the loop itself: choosing questions, rendering, judging,
pairs, commits, evaluation, the gate and the log. Each run is a process of its own. The slope is that of log(seconds)
over log(questions), by least squares; 1 means that the cost grows as the work does.
"""

import argparse
import json
import math
import multiprocessing
import os
import sqlite3
import statistics
import tempfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from loop.context import BatchSizes
from loop.controller import run
from store.new_questions import NewQuestion
from tests.support.scripted_run import COLOURS, Script, scripted_config, scripted_parts

FACTORS = (1, 4, 16, 64)
QUESTIONS, SAMPLES, HELD_OUT = 125, 6, 200
ROUNDS_TO_COMPARE = 10


def questions(train: int, held_out: int) -> Iterator[NewQuestion]:
    """Questions without images that name their answer; one in four is too hard for any policy."""
    for number in range(train + held_out):
        colour = COLOURS[number % len(COLOURS)]
        kind = "hard" if number % 4 == 3 else "easy"
        split = "train" if number < train else "test"
        yield NewQuestion(f"{kind} {number}: say {colour}", [colour], [], split, "growth", "exact")


def make_run(folder: Path, asked: int, rounds: int) -> None:
    """Make a run whose rounds ask `asked` questions each, out of four times as many."""
    folder.mkdir()
    config = scripted_config(
        folder,
        run={"rounds": rounds},
        sampling={"questions": asked, "samples": SAMPLES, "max_tokens": 32},
        fallback={"questions": 0},
        retention={"keep_every": 1000},
    )
    script = Script(held_out=HELD_OUT, read=partial(questions, 4 * asked))
    parts = replace(scripted_parts(script, [], lambda _: None), batch_sizes=BatchSizes())
    os.chdir(folder)
    run(config, folder / "run", script.reporter, parts=parts)


def seconds_by_round(folder: Path, asked: int, rounds: int) -> dict[int, float]:
    """Make the run in a process of its own; returns the seconds of its rounds, the cold start as round 0."""
    process = multiprocessing.get_context("spawn").Process(target=make_run, args=(folder, asked, rounds))
    process.start()
    process.join()
    if process.exitcode:
        raise SystemExit(f"the run of {asked} questions per round failed with {process.exitcode}")
    with closing(sqlite3.connect(folder / "run" / "store.db")) as connection:
        return dict(connection.execute("SELECT round, sum(seconds) FROM phase_time GROUP BY round"))


def slope(points: list[tuple[float, float]]) -> float:
    """Slope of log(y) over log(x), by least squares."""
    xs, ys = ([math.log(point[n]) for point in points] for n in (0, 1))
    found: float = statistics.linear_regression(xs, ys).slope
    return found


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--factors", type=int, nargs="+", default=FACTORS)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--output", type=Path, help="JSON file of the figures")
    options = parser.parse_args()
    result: dict[str, Any] = {"questions": {}, "rounds": {}}
    with tempfile.TemporaryDirectory() as name:
        for factor in options.factors:
            asked = QUESTIONS * factor
            by_round = seconds_by_round(Path(name) / str(factor), asked, 3)
            result["questions"][asked] = round(statistics.mean((by_round[2], by_round[3])), 2)
            print(
                f"{asked:,} questions, {asked * SAMPLES:,} chains: {result['questions'][asked]} s per round", flush=True
            )
        result["slope"] = round(slope(list(result["questions"].items())), 3)
        print(f"slope {result['slope']}")
        by_round = seconds_by_round(Path(name) / "long", QUESTIONS, options.rounds)
    early = [by_round[number] for number in range(2, 2 + ROUNDS_TO_COMPARE)]
    late = [by_round[number] for number in range(options.rounds + 1 - ROUNDS_TO_COMPARE, options.rounds + 1)]
    result["rounds"] = {"first": round(statistics.median(early), 3), "last": round(statistics.median(late), 3)}
    print(f"rounds 2 to {1 + ROUNDS_TO_COMPARE}: {result['rounds']['first']} s (median)")
    print(f"rounds {options.rounds + 1 - ROUNDS_TO_COMPARE} to {options.rounds}: {result['rounds']['last']} s (median)")
    if options.output is not None:
        options.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
