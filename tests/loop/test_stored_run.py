"""A run that was begun with commit df0f1a0 opens, and continues with real vLLM and TRL.

The fixture is a text-only run of one round, made by that commit from the files beside it; it ended with an accepted
DPO update. Only the paths of its model are those of the place where the test copies it.
"""

import json
import shutil
import sqlite3
from pathlib import Path

import pytest

from tests.support.command_line import PROJECT, log_of, run_command

pytestmark = pytest.mark.heavy
FIXTURE = PROJECT / "tests" / "fixtures" / "run_df0f1a0"


@pytest.fixture
def stored_run(tmp_path: Path) -> Path:
    """The directory of the fixture's files; the run is in `run/` below it."""
    shutil.copytree(FIXTURE, tmp_path / "files")
    run_dir = tmp_path / "files" / "run"
    run_dir.mkdir()
    for name in ("store.db", "policies", "rounds.jsonl"):
        (tmp_path / "files" / name).rename(run_dir / name)
    model, questions = tmp_path / "files" / "model", tmp_path / "files" / "questions.jsonl"
    connection = sqlite3.connect(run_dir / "store.db")
    moved = (str(model), str(questions))
    change = "json_set(configuration, '$.policy.model', ?, '$.questions.path', ?)"
    connection.execute(f"UPDATE run SET configuration = {change}", moved)
    connection.execute("UPDATE policy SET path = ? WHERE number = 0", (str(model),))
    connection.commit()
    connection.close()
    return tmp_path / "files"


def test_a_run_of_commit_df0f1a0_is_continued(stored_run: Path) -> None:
    run_dir = stored_run / "run"
    before = log_of(run_dir)
    assert [row["round"] for row in before] == [0, 1]
    run_command("run", "--config", stored_run / "config.toml", "--rounds", 2, "--run-dir", run_dir)
    after = log_of(run_dir)
    assert [row["round"] for row in after] == [0, 1, 2]
    for old, new in zip(before, after, strict=False):
        assert {key: new[key] for key in ("accuracy", "pairs", "decision", "training_loss")} == {
            key: old[key] for key in ("accuracy", "pairs", "decision", "training_loss")
        }
    assert after[-1]["accuracy"]["cot"] is not None  # the key evaluation.styles came later: both styles, as begun
    assert after[-1]["accuracy"]["direct"] is not None
    accepted = json.loads(run_command("status", run_dir, "--json", check=3).stdout)["last_accepted_policy"]
    assert accepted == after[-1]["policy"]
    assert json.loads(run_command("check", run_dir, "--json").stdout) == {"faults": []}
