"""A soak test: small real runs in sequence; each one is ended many times and disturbed the whole time.

    python -m benchmarks.soak --hours 2

Real vLLM and TRL, the shipped model, the embedded teacher. Each run is compared with an unbroken one of the same
configuration: texts, pairs, decisions, evaluations, sha256 of weights; no record may come twice. SIGKILL, SIGTERM,
SIGHUP or a full disk end the sessions at random moments, and new sessions continue. During this teacher answers fail,
the clock jumps, the disk is slow, and questions are added. The run is served, read, checked and backed up, and other
processes lock its store.

The JSON file is written again after every run, and a new call adds to it: `--hours` includes those of earlier calls. A
run that differs, fails or hangs is kept in `--folder` with its log, and the exit code is then 1. Needs gcc.
"""

import argparse
import json
import os
import random
import shutil
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks.soak.comparison import content, differences
from benchmarks.soak.controller import Controller, HangError
from benchmarks.soak.disturbances import Disturbances
from benchmarks.soak.machine import Machine
from benchmarks.soak.recipes import RECIPES, ROUNDS, write_questions, write_recipe
from benchmarks.soak.teacher import FaultyTeacher, serve_faulty_teacher
from tests.support.command_line import PROJECT

RESULTS = PROJECT / "benchmarks" / "results" / "soak.json"
ENDINGS = (3, 6)
"""At least and at most so many sessions are ended before the last round, and again in it."""


class Soak:
    """Makes the runs of a soak in a folder."""

    def __init__(self, folder: Path, machine: Machine, url: str, teacher: FaultyTeacher) -> None:
        self._folder, self._machine, self._teacher = folder, machine, teacher
        self._recipes = {name: write_recipe(folder, name, url) for name in RECIPES}
        self._before, self._while = write_questions(folder)
        self._expected: dict[str, dict[str, list[Any]]] = {}

    def expected(self, recipe: str) -> dict[str, list[Any]]:
        """The content of an unbroken run of the recipe, which is made on the first call."""
        if recipe not in self._expected:
            place = self._folder / f"unbroken_{recipe}"
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir()
            self._finish(place / "run", recipe)
            self._expected[recipe] = content(place / "run")
            shutil.rmtree(place)
        return self._expected[recipe]

    def run(self, number: int) -> dict[str, Any]:
        """Make one disturbed run; return its result."""
        recipe = sorted(RECIPES)[number % len(RECIPES)]
        drawn, began = random.Random(number), time.monotonic()
        place = self._folder / f"run_{number}"
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        run_dir = place / "run"
        run_dir.mkdir()
        self._teacher.faults = 0
        controller = Controller(run_dir, self._recipes[recipe], self._machine, number)
        disturbances = Disturbances(run_dir, self._machine, self._teacher, number)
        different: list[str] = []
        continued = False
        try:
            expected = self.expected(recipe)
            with disturbances:
                controller.finish(ROUNDS - 1, drawn.randint(*ENDINGS))
                disturbances.command("add", run_dir, self._before)
                controller.finish(
                    ROUNDS, drawn.randint(*ENDINGS), lambda: disturbances.command("add", run_dir, self._while)
                )
                disturbances.command("add", run_dir, self._while)
            disturbances.command("check", run_dir)
            different = differences(content(run_dir), expected)
            if disturbances.backup is not None and drawn.random() < 0.3:
                continued = True
                self._finish(disturbances.backup, recipe)
                different += [f"backup: {line}" for line in differences(content(disturbances.backup), expected)]
        except HangError as hang:
            different.append(str(hang))
        failures = [*controller.failures, *disturbances.failures]
        if not different and not failures:
            shutil.rmtree(place)
        return {
            "recipe": recipe,
            "seconds": round(time.monotonic() - began),
            **controller.summary(),
            "teacher_faults": self._teacher.faults,
            "beside": dict(sorted(disturbances.counts.items())),
            "backup_continued": continued,
            "differences": different,
            "failures": failures,
        }

    def _finish(self, run_dir: Path, recipe: str) -> None:
        """Run a recipe to its end without disturbances."""
        quiet = Controller(run_dir, self._recipes[recipe], self._machine, 0)
        beside = Disturbances(run_dir, self._machine, self._teacher, 0)
        for rounds, file in ((ROUNDS - 1, self._before), (ROUNDS, self._while)):
            quiet.finish(rounds, 0)
            beside.command("add", run_dir, file)
        if quiet.failures or beside.failures:
            raise HangError(f"a run that nothing disturbs fails: {quiet.failures} {beside.failures}")


def totals(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Sum the figures of all runs."""
    ended: dict[str, Counter[str]] = {}
    beside: Counter[str] = Counter()
    for run in runs:
        beside.update(run["beside"])
        for ending, phases in run["ended_by"].items():
            ended.setdefault(ending, Counter()).update(phases)
    return {
        "runs": len(runs),
        "seconds": sum(run["seconds"] for run in runs),
        "sessions": sum(run["sessions"] for run in runs),
        "ended": {ending: sum(phases.values()) for ending, phases in sorted(ended.items())},
        "ended_in_phase": {ending: dict(sorted(phases.items())) for ending, phases in sorted(ended.items())},
        "writes_to_a_full_disk": sum(run.get("writes to a full disk", 0) for run in runs),
        "teacher_faults": sum(run["teacher_faults"] for run in runs),
        "beside": dict(sorted(beside.items())),
        "backups_continued": sum(run["backup_continued"] for run in runs),
        "runs_that_differ": sum(bool(run["differences"]) for run in runs),
        "runs_with_failures": sum(bool(run["failures"]) for run in runs),
    }


def main() -> None:
    """Make runs until the hours are over."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", type=float, default=2.0)
    parser.add_argument("--folder", type=Path, default=PROJECT / "runs" / "soak", help="where the runs are made")
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    runs = json.loads(options.output.read_text())["runs"] if options.output.is_file() else []
    spent = sum(run["seconds"] for run in runs)
    machine = Machine(options.folder, options.folder)
    with serve_faulty_teacher() as (url, teacher):
        soak = Soak(options.folder.resolve(), machine, url, teacher)
        began = time.monotonic()
        while not runs or spent + time.monotonic() - began < options.hours * 3600:
            runs.append(soak.run(len(runs)))
            result = {"cores": os.cpu_count(), "totals": totals(runs), "runs": runs}
            temporary = options.output.with_suffix(".tmp")
            options.output.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_text(json.dumps(result, indent=1) + "\n")
            temporary.replace(options.output)
            print(json.dumps(runs[-1]), file=sys.stderr, flush=True)
    found = totals(runs)
    sys.exit(1 if found["runs_that_differ"] or found["runs_with_failures"] else 0)


if __name__ == "__main__":
    main()
