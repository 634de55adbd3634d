"""`evaluate --benchmark`: answers kept in the run, figures by the benchmark's rule, samples in lmms-eval's format."""

import io
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from loop.commands.evaluate_benchmark import evaluate_benchmark
from loop.commands.options import stored_config
from loop.errors import InputError
from loop.session import Parts
from loop.terminal.console import Console
from policies.sampler import Chain, Request
from store import open_store
from store.new_questions import NewQuestion, add_questions
from tests.judges.test_published import LMMS_EVAL, needs_lmms_eval
from tests.support.benchmark_sets import BENCHMARK_ROWS, write_benchmark
from tests.support.command_line import PROJECT
from tests.support.scripted_run import Script, ScriptedEngine, scripted_parts
from tests.support.stores import run_here

Answer = Callable[[str], str]


class AnsweringEngine(ScriptedEngine):
    """Answers a prompt by a function of its text; `asked` has every prompt."""

    def __init__(self, encoder: Any, answer: Answer, asked: list[str]) -> None:
        super().__init__(encoder, Script())
        self.answer, self.asked = answer, asked

    def _chain(self, request: Request) -> Chain:
        self.asked.append(request.prompt.text)
        text = self.answer(request.prompt.text)
        return Chain(request.key, text, tuple(self.encoder.completion_ids(text)), 0.0, "stop")


def parts_answering(answer: Answer, asked: list[str]) -> Parts:
    parts = scripted_parts(Script(), [], lambda _: None)
    return replace(parts, start_sampler=lambda model, encoder, *_: AnsweringEngine(encoder, answer, asked))


@pytest.fixture
def run_dir(scripted_run_dir: Path, tmp_path: Path) -> Path:
    shutil.copytree(scripted_run_dir, tmp_path / "run", symlinks=True)
    return tmp_path / "run"


def evaluated(run_dir: Path, name: str, data: Path, answer: Answer, **options: Any) -> tuple[dict[str, Any], list[str]]:
    asked: list[str] = []
    with closing(open_store(run_dir)) as store:
        config = stored_config(store, run_dir)
    parts = parts_answering(answer, asked)
    found = evaluate_benchmark(config, run_dir, Console(quiet=True), 1, name, data, parts=parts, **options)
    return found, asked


def first_of(name: str) -> Answer:
    """The accepted answer of the row whose question a prompt begins with, where the row is an even one."""
    answers = {
        row["question"]: str(row["answer"]) if n % 2 == 0 else "no idea" for n, row in enumerate(BENCHMARK_ROWS[name])
    }
    return lambda prompt: answers[prompt.splitlines()[0]]


def test_the_benchmarks_own_rule_scores_and_answers_are_kept(run_dir: Path, tmp_path: Path) -> None:
    data = write_benchmark(tmp_path / "chartqa.parquet", "chartqa")
    log = run_here("log", run_dir).stdout
    found, asked = evaluated(run_dir, "chartqa", data, first_of("chartqa"), output=tmp_path / "samples")
    assert found["metrics"] == {"relaxed_overall": 0.6, "relaxed_human_split": 1.0, "relaxed_augmented_split": 0.0}
    assert sorted(asked) == sorted(
        f"{row['question']}\nAnswer the question with a single word." for row in BENCHMARK_ROWS["chartqa"]
    )
    with closing(sqlite3.connect(run_dir / "store.db")) as store:
        rows = store.execute(
            "SELECT judge, judge_version, count(*), sum(score) FROM evaluation WHERE split = 'benchmark:chartqa'"
        ).fetchall()
    assert rows == [("benchmark(chartqa)", "lmms-eval 0.7.3", 5, 3.0)]
    assert "benchmark:chartqa" in run_here("show", run_dir, "policy", 1).stdout
    assert run_here("log", run_dir).stdout == log
    again, asked = evaluated(run_dir, "chartqa", data, first_of("chartqa"))
    assert asked == []
    assert again["metrics"] == found["metrics"]


def test_samples_are_lines_as_lmms_eval_logs_them(run_dir: Path, tmp_path: Path) -> None:
    data = write_benchmark(tmp_path / "ai2d.parquet", "ai2d")
    found, _ = evaluated(run_dir, "ai2d", data, lambda prompt: " B. D", output=tmp_path / "samples")
    lines = [json.loads(line) for line in Path(found["files"][0]).read_text().splitlines()]
    assert Path(found["files"][0]).name.endswith("_samples_ai2d.jsonl")
    assert [line["doc_id"] for line in lines] == [0, 1]
    assert [line["target"] for line in lines] == ["B", "A"]
    assert [(line["resps"], line["filtered_resps"], line["exact_match"]) for line in lines] == [
        ([" B. D"], "B", 1.0),
        ([" B. D"], "B", 0.0),
    ]
    assert lines[0]["input"].startswith("which of these define dairy item\nA. c\nB. D\n")


@needs_lmms_eval
@pytest.mark.heavy
def test_lmms_evals_own_model_from_log_reads_the_answers(run_dir: Path, tmp_path: Path) -> None:
    data = write_benchmark(tmp_path / "chartqa.parquet", "chartqa")
    evaluated(run_dir, "chartqa", data, first_of("chartqa"), output=tmp_path / "samples")
    program = PROJECT / "tests" / "support" / "programs" / "lmms_eval_from_log.py"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(program), str(tmp_path / "samples")],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(LMMS_EVAL)},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    read = json.loads(done.stdout.splitlines()[-1])
    assert [read["chartqa"][str(n)][0] for n in range(5)] == ["14", "no idea", "2019", "no idea", "0"]


def test_a_chain_is_scored_by_the_answer_after_its_marker(run_dir: Path, tmp_path: Path) -> None:
    data = write_benchmark(tmp_path / "gsm8k.parquet", "gsm8k")

    def reason(prompt: str) -> str:
        return "I count 99.\n### Answer: 18" if prompt.startswith("How many eggs?") else "I do not know"

    found, asked = evaluated(run_dir, "gsm8k", data, reason, style="cot")
    assert found["metrics"]["exact_match,flexible-extract"] == 0.25
    assert all("Reason first" in prompt for prompt in asked)
    with closing(sqlite3.connect(run_dir / "store.db")) as store:
        outcomes = store.execute("SELECT outcome, count(*) FROM evaluation WHERE split = 'benchmark:gsm8k' GROUP BY 1")
        assert outcomes.fetchall() == [("correct", 1), ("unparsable", 3)]


def test_a_trained_image_is_named_even_in_another_file(run_dir: Path, tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    data = write_benchmark(tmp_path / "chartqa.parquet", "chartqa")
    first, second, *_ = (row["image"]["bytes"] for row in pq.read_table(data).to_pylist())
    other_file = io.BytesIO()
    Image.open(io.BytesIO(second)).save(other_file, "BMP")
    assert other_file.getvalue() != second
    with closing(open_store(run_dir)) as store:
        for image in (first, other_file.getvalue()):
            add_questions(store, [NewQuestion(f"seen {len(image)}?", ["red"], [image], "train", "test", "exact")])
        trained = [row["id"] for row in store.rows("SELECT id FROM question WHERE text LIKE 'seen %' ORDER BY id")]
    found, _ = evaluated(run_dir, "chartqa", data, first_of("chartqa"), output=tmp_path / "samples")
    assert found["seen_in_training"] == {0: trained[0], 1: trained[1]}
    assert found["metrics_unseen"]["relaxed_overall"] == pytest.approx(2 / 3)
    lines = [json.loads(line) for line in Path(found["files"][0]).read_text().splitlines()]
    assert [line.get("seen_in_training") for line in lines] == [*trained, None, None, None]


@pytest.mark.parametrize("name", sorted(BENCHMARK_ROWS))
def test_every_benchmark_is_read_asked_and_scored(name: str, run_dir: Path, tmp_path: Path) -> None:
    data = write_benchmark(tmp_path / f"{name}.parquet", name)
    found, asked = evaluated(run_dir, name, data, lambda prompt: "A", output=tmp_path / "samples")
    assert found["questions"] == len(BENCHMARK_ROWS[name])
    assert len(set(asked)) == found["questions"]
    assert found["metrics"]


def test_a_model_that_reads_text_only_takes_no_images(run_dir: Path, tmp_path: Path) -> None:
    data = write_benchmark(tmp_path / "chartqa.parquet", "chartqa")
    with closing(open_store(run_dir)) as store:
        config, images = stored_config(store, run_dir), store.value("SELECT count(*) FROM image")
    blind: Any = SimpleNamespace(is_vision=False)
    parts = replace(parts_answering(str, []), make_encoder=lambda *_, **__: blind)
    with pytest.raises(InputError, match="has images, but this run's model reads text only"):
        evaluate_benchmark(config, run_dir, Console(quiet=True), 1, "chartqa", data, parts=parts)
    with closing(open_store(run_dir)) as store:
        assert store.value("SELECT count(*) FROM image") == images


def test_a_faulty_set_is_one_line_and_stores_nothing(run_dir: Path, tmp_path: Path) -> None:
    data = write_benchmark(tmp_path / "chartqa.parquet", "chartqa")
    with pytest.raises(InputError, match="column 'answers'; did you mean 'answer'"):
        evaluated(run_dir, "docvqa", data, first_of("chartqa"))
    for arguments, said in (
        (("--benchmark", "chartqua", "--data", data), "--benchmark chartqua: is unknown; known: a_okvqa, "),
        (("--benchmark", "chartqa", "--data", tmp_path / "no"), "there is no such file or folder"),
        (("--data", data), "--data is for a benchmark"),
        (("--benchmark", "chartqa", "--best-of", "4"), "leave --split, --best-of"),
    ):
        assert said in run_here("evaluate", run_dir, *arguments, check=2).stderr
    with closing(sqlite3.connect(run_dir / "store.db")) as store:
        assert store.execute("SELECT count(*) FROM question WHERE source = 'benchmark'").fetchall() == [(0,)]
