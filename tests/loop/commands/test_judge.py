"""`run_loop.py judge`: any predictions file, a line in and a line out."""

import io
import json
import subprocess
import sys
import time
from typing import Any

import pytest

from judges import find_judge
from loop.errors import InputError
from loop.evaluation.predictions import Summary, format_summary, judge_lines
from tests.support.chat_endpoint import endpoint
from tests.support.command_line import PROJECT, command, run_command
from tests.support.stores import modules_of


def run(rows: list[object], *arguments: str, check: int = 0) -> tuple[list[dict[str, Any]], str]:
    text = "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows)
    done = subprocess.run(
        command("judge", *arguments), input=text, capture_output=True, text=True, cwd=PROJECT, timeout=60, check=False
    )
    assert done.returncode == check, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()], done.stderr


def test_judged_rows_go_to_stdout_and_the_summary_to_stderr() -> None:
    rows, summary = run(
        [
            {"prediction": "### Answer: 105", "answer": 100, "id": 7},
            {"prediction": "106", "answers": ["100", "90"]},
            {"prediction": "", "answer": "1"},
            "",
            {"prediction": "so it is 1", "answer": "1", "finish_reason": "length"},
        ],
        *("--judge", "chartqa"),
    )
    assert rows[0] == {
        "prediction": "### Answer: 105",
        "answer": 100,
        "id": 7,
        "extracted": "105",
        "score": 1.0,
        "outcome": "correct",
        "flags": [],
    }
    assert [row["outcome"] for row in rows] == ["correct", "wrong", "unparsable", "truncated"]
    assert "chartqa (version 1): 25.00% correct [4.56, 69.94] of 4 rows" in summary
    assert "outcomes: correct 1, truncated 1, unparsable 1, wrong 1" in summary


def test_a_broken_row_is_named_by_its_line_and_can_be_skipped() -> None:
    rows = [
        {"prediction": "a", "answer": "a"},
        {"prediction": 3, "answer": "a"},
        "{",
        {"prediction": "b", "answer": "a"},
    ]
    _, error = run(rows, "--judge", "exact", check=2)
    assert error.strip() == "error: line 2: 'prediction' must be a text"
    judged, error = run(rows, "--judge", "exact", "--skip-bad")
    assert [row["outcome"] for row in judged] == ["correct", "wrong"]
    assert "skipped: line 2: 'prediction' must be a text" in error
    assert "skipped: line 3: not JSON" in error
    assert "skipped: 2 broken rows" in error


def test_an_unknown_judge_or_option_is_one_line_and_exit_code_2() -> None:
    for spec in ("vibes", "numeric(x=1)"):
        _, error = run([], "--judge", spec, check=2)
        assert error.startswith("error: --judge: judge ")
        assert error.count("\n") == 1


def judge(rows: list[object], spec: str, **options: object) -> tuple[list[dict[str, Any]], Summary]:
    out = io.StringIO()
    lines = [row if isinstance(row, bytes) else json.dumps(row).encode() for row in rows]
    summary = judge_lines(lines, out, find_judge(spec), **options)  # type: ignore[arg-type]
    return [json.loads(line) for line in out.getvalue().splitlines()], summary


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        (b"\xff", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        ([1], "must be a JSON object"),
        ({"answer": "a"}, "'prediction' must be a text"),
        ({"prediction": "a"}, "needs 'answer'"),
        ({"prediction": "a", "answer": "a", "answers": ["b"]}, "not both"),
        ({"prediction": "a", "answer": None}, "'answer' must be"),
        ({"prediction": "a", "answers": [["a"]]}, "'answers' must be"),
        ({"prediction": "a", "answer": True}, "'answer' must be"),
        ({"prediction": "a", "answers": []}, "no accepted answer"),
        ({"prediction": "a", "answer": "a", "choices": {}}, "'choices' must be"),
        ({"prediction": "a", "answer": "a", "finish_reason": 1}, "'finish_reason' must be"),
    ],
)
def test_every_fault_of_a_row_has_its_own_words(row: object, complaint: str) -> None:
    with pytest.raises(InputError, match="line 2: ") as caught:
        judge([{"prediction": "a", "answer": "a"}, row], "exact")
    assert complaint in str(caught.value)


def test_keys_markers_choices_and_odd_texts_are_accepted() -> None:
    rows, _ = judge([{"out": "x\ud800", "gold": ["x\ud800"]}], "exact", prediction_key="out", answers_key="gold")
    assert rows[0]["outcome"] == "correct"
    rows, _ = judge([{"prediction": "B", "answer": "cat", "choices": ["dog", "cat"]}], "choice")
    assert rows[0]["outcome"] == "correct"
    rows, _ = judge([{"prediction": "cat", "answer": "cat"}], "exact", needs_marker=True)
    assert rows[0]["outcome"] == "unparsable"
    with pytest.raises(InputError, match="has no 'gold'"):
        judge([{"prediction": "a"}], "exact", answers_key="gold")
    with pytest.raises(InputError, match="line 1: judge 'vqa': scores agreement among annotators"):
        judge([{"prediction": "a", "answer": "a"}], "vqa")


def test_llm_is_asked_and_its_agreement_with_a_rule_is_measured() -> None:
    def reply(text: str) -> str:
        return (
            '{"verdict": "correct"}'
            if "feline" in text or "- cat\n===== answer to be judged\ncat" in text
            else '{"verdict": "wrong"}'
        )

    predictions = ["cat", "a feline", "dog", "bird"]
    rows = [{"question": "What is it?", "prediction": each, "answer": "cat"} for each in predictions]
    with endpoint(reply) as url:
        judged, summary = run(
            [*rows], "--judge", "llm", "--against", "exact", "--base-url", url, "--model", "m", "--json"
        )
    assert [row["outcome"] for row in judged] == ["correct", "correct", "wrong", "wrong"]
    agreement = json.loads(summary)["agreement"]
    assert agreement["rows"] == 4
    assert agreement["share"] == 0.75
    assert agreement["kappa"] == pytest.approx(0.5)
    with pytest.raises(InputError, match="needs --base-url and --model"):
        judge([rows[0]], "llm")
    with pytest.raises(InputError, match="needs 'question'"):
        judge([{"prediction": "a", "answer": "a"}], "llm")


def test_no_rows_have_no_accuracy() -> None:
    _, summary = judge([], "exact")
    assert summary.as_dict()["accuracy"] is None
    assert format_summary(find_judge("exact"), summary.as_dict()) == "no rows judged, 0 skipped"


def test_it_starts_in_under_a_second_and_imports_nothing_heavy() -> None:
    heavy = {"torch", "transformers", "openai", "math_verify", "sqlite_utils", "pandas", "numpy", "pydantic"}
    assert heavy & modules_of("judge", "--judge", "exact") == set()
    seconds = []
    for _ in range(3):
        started = time.monotonic()
        run_command("judge", "--judge", "exact", "--help")
        seconds.append(time.monotonic() - started)
    assert min(seconds) < 1.0


def test_a_reader_that_goes_away_is_no_traceback() -> None:
    line = json.dumps({"prediction": "a", "answer": "a"})
    done = subprocess.run(
        ["/bin/sh", "-c", f"yes '{line}' | head -50000 | {sys.executable} run_loop.py judge --judge exact | head -1"],
        capture_output=True,
        text=True,
        cwd=PROJECT,
        timeout=60,
        check=False,
    )
    assert json.loads(done.stdout)["outcome"] == "correct"
    assert "Traceback" not in done.stderr
    assert "Exception" not in done.stderr
