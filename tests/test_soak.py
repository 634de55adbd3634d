"""The soak: its bad machine does what it says, its comparison notices, and a run of it finds no difference."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.soak.comparison import differences
from benchmarks.soak.machine import Machine
from tests.support.command_line import PROJECT

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed")

LOOK = """
import os, sys, time
began = time.monotonic()
with open(sys.argv[1], "ab", buffering=0) as file:
    try:
        file.write(b"text")
    except OSError as error:
        print(error.strerror)
    os.fsync(file.fileno())
print(time.time(), time.monotonic() - began)
"""


def look(machine: Machine, file: Path) -> list[str]:
    """Write to the file in a process; returns the error, if any, the process's clock, and how long it took."""
    words = [sys.executable, "-c", LOOK, str(file)]
    return subprocess.run(
        words, env=machine.environment, capture_output=True, text=True, check=True
    ).stdout.splitlines()


def test_clock_and_disk_are_what_the_soak_makes_them(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    machine = Machine(tmp_path, run_dir)
    right, took = map(float, look(machine, run_dir / "file")[-1].split())
    assert took < 0.2
    machine.clock(-86400)
    machine.slow(300, 0)
    wrong, took = map(float, look(machine, run_dir / "file")[-1].split())
    assert 86_000 < right - wrong < 86_500
    assert took >= 0.3
    machine.full(True)
    assert look(machine, run_dir / "file")[0] == "No space left on device"
    assert len(look(machine, tmp_path / "file")) == 1  # elsewhere there is room
    assert machine.full(False) == 1
    assert (run_dir / "file").read_bytes() == b"texttext"


def test_a_text_that_differs_is_named_by_its_table_and_row() -> None:
    same: dict[str, list[Any]] = {"sample": [(1, "red"), (2, "blue")], "pair": [(1, 2)]}
    assert differences(same, same) == []
    (line,) = differences({**same, "sample": [(1, "red"), (2, "green")]}, same)
    assert line == "sample: 2 rows in place of 2; (2, 'green') in place of (2, 'blue')"
    (line,) = differences({**same, "pair": [(1, 2), (1, 2)]}, same)
    assert line == "pair: 2 rows in place of 1; rows at the end"


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_run_of_the_soak_ends_like_an_unbroken_one(tmp_path: Path) -> None:
    output = tmp_path / "soak.json"
    words: list[str | Path] = [sys.executable, "-m", "benchmarks.soak", "--hours", "0"]
    words += ["--folder", tmp_path / "runs", "--output", output]
    done = subprocess.run(words, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    totals = json.loads(output.read_text())["totals"]
    assert totals["runs"] == 1
    assert sum(totals["ended"].values()) >= 4
