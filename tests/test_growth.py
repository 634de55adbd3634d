"""`benchmarks.growth` makes its runs through the real controller and writes its figures."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.growth import slope
from tests.support.command_line import PROJECT


def test_a_cost_that_grows_as_the_work_has_slope_one() -> None:
    assert slope([(1, 2.0), (4, 8.0), (16, 32.0)]) == pytest.approx(1)
    assert slope([(1, 2.0), (4, 2.0)]) == pytest.approx(0)


@pytest.mark.heavy
def test_growth_is_measured(tmp_path: Path) -> None:
    output = tmp_path / "growth.json"
    words = [
        sys.executable,
        "-m",
        "benchmarks.growth",
        "--factors",
        "1",
        "2",
        "--rounds",
        "22",
        "--output",
        str(output),
    ]
    done = subprocess.run(words, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(output.read_text())
    assert set(found["questions"]) == {"125", "250"}
    assert found["rounds"]["first"] > 0
    assert found["rounds"]["last"] > 0
