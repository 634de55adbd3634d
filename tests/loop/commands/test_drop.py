"""`drop` takes questions out of a run and puts them back."""

import json
from pathlib import Path

import pytest

from tests.support.stores import change, finished_run, run_here


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    return finished_run(tmp_path)


def test_a_dropped_question_is_shown_counted_and_put_back(run_dir: Path) -> None:
    done = run_here("drop", run_dir, 9, 10, "--reason", "its answer is wrong")
    assert done.stdout == "2 questions dropped; --undo puts them back\n"
    assert "dropped: its answer is wrong" in run_here("show", run_dir, "question", 9).stdout
    listed = run_here("show", run_dir, "question", "--unusable", "--json").stdout.splitlines()
    assert [json.loads(line)["id"] for line in listed] == [9, 10]
    assert "unusable  2 questions" in run_here("status", run_dir, check=3).stdout
    assert json.loads(run_here("status", run_dir, "--json", check=3).stdout)["unusable"] == 2
    assert run_here("drop", run_dir, 9, 10, "--undo").stdout == "2 questions put back; they may be asked again\n"
    assert run_here("show", run_dir, "question", "--unusable", "--json").stdout == ""


def test_what_a_round_in_progress_has_drawn_is_said(run_dir: Path) -> None:
    change(run_dir, "UPDATE round SET phase = 'sample' WHERE number = (SELECT max(number) FROM round)")
    drawn = json.loads(run_here("show", run_dir, "question", "--round", 1, "--limit", 1, "--json").stdout)["id"]
    change(run_dir, f"INSERT OR IGNORE INTO round_question SELECT max(number), 999, {drawn} FROM round")
    done = run_here("drop", run_dir, drawn, "--reason", "x")
    assert f"has drawn {drawn} and finishes with" in done.stdout
    assert json.loads(run_here("drop", run_dir, drawn, "--reason", "x", "--json").stdout)["drawn_by_round"] == [drawn]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((9,), "give --reason"),
        ((9, "--reason", "  "), "give --reason"),
        ((9, "--undo", "--reason", "x"), "--reason is for taking"),
        ((9, 12345, "--reason", "x"), "no question 12345"),
        ((12345, "--undo"), "no question 12345"),
    ],
)
def test_a_mistake_is_one_line_and_changes_nothing(run_dir: Path, arguments: tuple[object, ...], said: str) -> None:
    done = run_here("drop", run_dir, *arguments, check=2)
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert run_here("show", run_dir, "question", "--unusable", "--json").stdout == ""


def test_a_directory_without_a_run_is_named(tmp_path: Path) -> None:
    assert "holds no run" in run_here("drop", tmp_path, 1, "--reason", "x", check=2).stderr
