"""Other trainers' logs of completions, imported and shown by the real command line."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.testclient import TestClient

from loop.errors import InputError
from loop.pages.serve import application
from loop.questions.completion_formats import read_completion
from tests.support.stores import finished_run, run_here

VERL = [
    {
        "input": f"user: {n}+1?",
        "output": f"So.\n### Answer: {n + k}",
        "gts": str(n + 1),
        "score": 1.0 * (k == 1),
        "step": 4,
    }
    for n in range(3)
    for k in range(2)
]


def write(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def imported(folder: Path, log: Path, *options: str) -> Path:
    run_here("import", folder / "seen", "completions", log, *options)
    return folder / "seen"


def rows_of(run_dir: Path, sql: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(run_dir / "store.db")) as store:
        return store.execute(sql).fetchall()


def test_a_verl_rollout_is_a_round_with_rewards_and_answers(tmp_path: Path) -> None:
    run_dir = imported(tmp_path, write(tmp_path / "4.jsonl", VERL))
    (row,) = map(json.loads, run_here("log", run_dir, "--json").stdout.splitlines())
    assert (row["round"], row["samples"], row["pass_rate"], row["decision"]) == (4, 6, 0.5, "no_update")
    assert rows_of(run_dir, "SELECT answers FROM question") == [('["1"]',), ('["2"]',), ('["3"]',)]
    assert rows_of(run_dir, "SELECT name, sum(value) FROM reward") == [("score", 3.0)]
    assert rows_of(run_dir, "SELECT DISTINCT judge, judge_version FROM verdict") == [("reward(score)", "verl")]
    assert "nothing wrong" in run_here("check", run_dir).stdout


def test_a_verifiers_file_keeps_messages_images_and_metrics(tmp_path: Path, image_questions: Path) -> None:
    import base64

    image = (image_questions.parent / "images" / "0.png").read_bytes()
    url = "data:image/png;base64," + base64.b64encode(image).decode()
    asked = [{"type": "text", "text": "What color is it?"}, {"type": "image_url", "image_url": {"url": url}}]
    rows = [
        {
            "example_id": 0,
            "prompt": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": asked}],
            "completion": [{"role": "assistant", "content": word}],
            "answer": "red",
            "reward": reward,
            "metrics": {"format": 1.0},
            "is_truncated": reward == 0.0,
        }
        for word, reward in (("red", 1.0), ("blu", 0.0))
    ]
    run_dir = imported(tmp_path, write(tmp_path / "results.jsonl", rows))
    assert rows_of(run_dir, "SELECT text FROM question") == [("system: Be brief.\n\nuser: What color is it?",)]
    assert rows_of(run_dir, "SELECT bytes FROM image") == [(image,)]
    found = rows_of(run_dir, "SELECT text, outcome, finish_reason FROM sample JOIN verdict ON sample = id ORDER BY id")
    assert found == [("red", "correct", "stop"), ("blu", "wrong", "length")]
    assert rows_of(run_dir, "SELECT name, count(*) FROM reward GROUP BY 1") == [("format", 2), ("reward", 2)]


def test_imported_twice_nothing_is_added_and_later_steps_are(tmp_path: Path) -> None:
    log = tmp_path / "rollouts"
    log.mkdir()
    write(log / "4.jsonl", VERL)
    run_dir = imported(tmp_path, log)
    again = run_here("import", run_dir, "completions", log, "--json")
    assert json.loads(again.stdout) == {"imported": 0, "steps": 0}
    write(log / "5.jsonl", [{**row, "step": 5} for row in VERL])
    more = run_here("import", run_dir, "completions", log, "--json")
    assert json.loads(more.stdout) == {"imported": 6, "steps": 1}


def test_no_run_goes_on_from_it_and_a_run_takes_no_completions(tmp_path: Path) -> None:
    log = write(tmp_path / "4.jsonl", VERL)
    run_dir = imported(tmp_path, log)
    assert "another trainer made" in run_here("run", "--run-dir", run_dir, check=2).stderr
    run = tmp_path / "run"
    run.mkdir()
    refused = run_here("import", finished_run(run), "completions", log, check=2)
    assert "holds a run; give a new directory" in refused.stderr


@pytest.mark.parametrize(
    ("rows", "options", "said"),
    [
        ([{"text": "a"}], (), "line 1: no completion of TRL"),
        ([*VERL, {**VERL[0], "step": "x"}], (), "line 7: 'step' must be a whole number, 0 or more, not 'x'"),
        ([*VERL, {**VERL[0], "input": ""}], (), "line 7: 'input' holds no text"),
        (VERL, ("--reward", "acc"), "--reward acc: "),
        (VERL, ("--answer", "solution"), "line 1: has no column 'solution'; it has input, output, gts, score, step"),
        (
            [{"input": "a", "output": "b"}],
            (),
            "line 1: no reward and no accepted answer; name its column with --answer",
        ),
        ([{"step": 1, "prompt": "a", "completion": "b", "x": 1.0, "y": 2.0}], (), "numbers x, y; name those that say"),
        ([{"input": "a", "output": "b", "gts": "b"}], ("--judge", "exakt"), "--judge: judge 'exakt' is unknown"),
    ],
)
def test_a_bad_log_is_named_by_file_and_row_and_not_stored(
    rows: list[Any], options: tuple[str, ...], said: str, tmp_path: Path
) -> None:
    log = write(tmp_path / "log.jsonl", rows)
    refused = run_here("import", tmp_path / "seen", "completions", log, *options, check=2)
    assert said in refused.stderr
    assert "Traceback" not in refused.stderr
    assert rows_of(tmp_path / "seen", "SELECT count(*) FROM question") == [(0,)]


def test_a_log_without_rewards_is_judged_against_its_answers(tmp_path: Path) -> None:
    rows = [{key: value for key, value in row.items() if key != "score"} for row in VERL]
    run_dir = imported(tmp_path, write(tmp_path / "4.jsonl", rows), "--judge", "numeric")
    assert rows_of(run_dir, "SELECT DISTINCT judge FROM verdict") == [("numeric",)]
    assert rows_of(run_dir, "SELECT count(*) FROM verdict WHERE outcome = 'correct'") == [(3,)]


def test_a_reward_that_does_not_apply_is_no_verdict_of_wrong(tmp_path: Path) -> None:
    rows = [VERL[0], {**VERL[1], "score": float("nan")}]
    run_dir = imported(tmp_path, write(tmp_path / "4.jsonl", rows))
    assert rows_of(run_dir, "SELECT outcome, flags FROM verdict ORDER BY sample")[1] == ("judge_error", '["no_reward"]')


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["role", "content", "type", "text", "image_url", "url"]), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(
    st.dictionaries(
        st.sampled_from(["step", "prompt", "completion", "reward", "input", "output", "gts", "metrics"]), JSON
    )
)
def test_any_row_is_read_or_refused_in_one_line(row: dict[str, Any]) -> None:
    refused: list[str] = []
    try:
        assert read_completion(row, "log.jsonl, line 1", None).prompt.strip()
    except InputError as error:
        refused.append(str(error))
    assert all(said.startswith("log.jsonl, line 1: ") and "\n" not in said for said in refused)


@pytest.mark.heavy
def test_trls_own_log_is_imported_and_shown_by_every_view(text_model: Path, tmp_path: Path) -> None:
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import GRPOConfig, GRPOTrainer

    def right(completions: list[str], answer: list[str], log_extra: Any, **_: Any) -> list[float]:
        log_extra("answer", list(answer))
        return [float(n % 2) for n in range(len(completions))]

    trainer = GRPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(text_model),
        reward_funcs=right,
        args=GRPOConfig(
            str(tmp_path / "trl"),
            per_device_train_batch_size=4,
            num_generations=4,
            max_completion_length=6,
            max_steps=2,
            logging_steps=1,
            log_completions=True,
            save_strategy="no",
            use_cpu=True,
            bf16=False,
            report_to="none",
        ),
        train_dataset=Dataset.from_list([{"prompt": f"What is {n}?", "answer": str(n)} for n in range(4)]),
        processing_class=AutoTokenizer.from_pretrained(text_model),
    )
    trainer.train()
    log = tmp_path / "trl" / "completions"
    assert sorted(file.name for file in log.iterdir()) == ["completions_00001.parquet", "completions_00002.parquet"]

    run_dir = imported(tmp_path, log)
    assert rows_of(
        run_dir, "SELECT round, count(*), sum(outcome = 'correct') FROM sample JOIN verdict ON sample = id GROUP BY 1"
    ) == [(1, 4, 2), (2, 4, 2)]
    assert {name for (name,) in rows_of(run_dir, "SELECT DISTINCT name FROM reward")} == {"advantage", "right"}
    assert all(
        text.split()[-1] == f"{json.loads(answers)[0]}?"
        for text, answers in rows_of(run_dir, "SELECT text, answers FROM question")
    )

    assert "reward(right), version TRL" in run_here("show", run_dir, "sample", 1).stdout
    run_here("report", run_dir, "-o", tmp_path / "report.html")
    client = TestClient(application(run_dir), base_url="http://127.0.0.1:8000")
    for page in ("/", "/questions", "/questions/1"):
        assert client.get(page).status_code == 200
    assert "What is" in client.get("/questions").text
    run_here("export", run_dir, "samples", "-o", tmp_path / "samples.parquet")
    assert "nothing wrong" in run_here("check", run_dir).stdout
