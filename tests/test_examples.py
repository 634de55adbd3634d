"""The examples: the loop in one file, small, with real vLLM and TRL; and the notebook's cells on a finished run."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.command_line import PROJECT

NOTEBOOK: dict[str, Any] = json.loads((PROJECT / "examples" / "notebook.ipynb").read_text())
SMALL = """
from pathlib import Path
from examples.minimal_loop import MinimalLoop, Sizes
sizes = Sizes(rationales=48, questions=24, samples=4, held_out=40, rounds=1)
print("accuracies", MinimalLoop(Path("policies"), sizes).run())
"""


def test_the_cells_of_the_notebook_run(scripted_run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "demo").symlink_to(scripted_run_dir)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    sources = ["".join(cell["source"]) for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]
    assert len(sources) >= 8
    for source in sources:
        exec(source, names)  # noqa: S102 (the notebook is ours)
    assert len(names["lineage"]) == len(names["run"].policies())


def test_the_notebook_shows_the_outputs_of_every_cell() -> None:
    code = [cell for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    assert all(cell["outputs"] for cell in code)


@pytest.mark.heavy
def test_the_loop_in_one_file_runs_small(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SMALL],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "accuracies [" in done.stdout
    assert {path.name for path in (tmp_path / "policies").iterdir()} == {"cold_start", "round_1", "training"}
