"""`judge --judge policy:JUDGE_DIR`: a file of preference rows, scored by a judge run with scripted weights."""

import io
import json
from pathlib import Path
from typing import Any

import pytest

from loop.errors import InputError
from loop.judge_runs.judge_rows import PreferenceSummary, judge_rows
from loop.judge_runs.judge_run import open_judge_run
from tests.support.command_line import PROJECT, run_command
from tests.support.killed_runs import JUDGE_TABLES
from tests.support.scripted_run import Script, make_encoder, preferences, run_scripted, scripted_config, scripted_parts

RED = "I see red. ### Answer: red"
BLACK = "I see black. ### Answer: black"
ROW: dict[str, Any] = {"question": "easy 1: say red", "candidates": [RED, BLACK], "better": 1}
SURE = Script(skills=(1.0,), cut_off=0.0)


@pytest.fixture(scope="module")
def judge_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished judge run."""
    folder = tmp_path_factory.mktemp("judge_rows")
    script = Script(skills=(0.7,), read=preferences)
    run_scripted(folder / "judge", scripted_config(folder, **JUDGE_TABLES), script=script)
    return folder / "judge"


def judged(
    judge_dir: Path, *rows: object, script: Script = SURE, **options: Any
) -> tuple[list[dict[str, Any]], PreferenceSummary]:
    lines = [(row if isinstance(row, str) else json.dumps(row)).encode() for row in rows]
    out = io.StringIO()
    start_sampler = scripted_parts(script, [], lambda _: None).start_sampler
    assert start_sampler is not None
    summary = judge_rows(
        lines,
        out,
        open_judge_run(judge_dir),
        folder=PROJECT / "tests" / "fixtures",
        make_encoder=make_encoder,
        start_sampler=start_sampler,
        **options,
    )
    return [json.loads(line) for line in out.getvalue().splitlines()], summary


def test_a_row_returns_the_preference_in_both_orders(judge_dir: Path) -> None:
    swapped = {**ROW, "candidates": [BLACK, RED], "better": 2, "id": 7, "images": ["red.png"]}
    unknown = {key: value for key, value in ROW.items() if key != "better"}
    rows, summary = judged(judge_dir, ROW, swapped, unknown, "")
    assert [row["preferred"] for row in rows] == [1, 2, 1]
    assert [row["share_of_first"] for row in rows] == [1.0, 0.0, 1.0]
    assert rows[1]["id"] == 7
    assert all(len(row["outputs"]) == 2 for row in rows)
    figures = summary.as_dict()
    assert (figures["rows"], figures["known"], figures["accuracy"], figures["consistent"]) == (3, 2, 1.0, 1.0)


def test_an_unreadable_verdict_is_counted_as_no_preference(judge_dir: Path) -> None:
    rows, summary = judged(judge_dir, ROW, script=Script(skills=(1.0,), cut_off=1.0))
    assert (rows[0]["preferred"], rows[0]["share_of_first"]) == (None, 0.5)
    assert (summary.unread, summary.correct) == (1, 0)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("{", "line 1: not JSON"),
        ("[1]", "line 1: must be an object with 'question'"),
        ({"question": "q"}, "line 1: must be an object with 'question'"),
        ({**ROW, "candidates": ["a"]}, "line 1: 'candidates' must be a list of two texts"),
        ({**ROW, "candidates": ["a", "a"]}, "line 1: both candidates are the same"),
        ({**ROW, "better": 3}, "line 1: 'better' must be 1 or 2, not 3"),
        ({**ROW, "images": "red.png"}, "line 1: 'images' must be a list of paths"),
        ({**ROW, "images": ["none.png"]}, "line 1: image 'none.png' cannot be read"),
        ({**ROW, "images": ["../conftest.py"]}, "lies outside"),
    ],
)
def test_a_broken_row_is_named_or_skipped(judge_dir: Path, row: object, said: str) -> None:
    with pytest.raises(InputError, match=said):
        judged(judge_dir, row)
    reported = list[str]()
    rows, summary = judged(judge_dir, row, ROW, skip_bad=True, report_bad=reported.append)
    assert (len(rows), summary.skipped) == (1, 1)
    assert said in reported[0]


def test_commands_refuse_what_is_no_judge_run(tmp_path: Path) -> None:
    assert "holds no run" in run_command("judge", "--judge", f"policy:{tmp_path}", check=2).stderr
    said = run_command("evaluate", tmp_path, "--judge", tmp_path, check=2).stderr
    assert "--judge picks among samples; give their number with --best-of" in said
