"""Runs on questions of one's own, with real vLLM and TRL; and what stops them, in one line."""

import json
import random
import resource
import signal
from pathlib import Path

import pytest

from loop.questions.sources.easy_vqa import write_rationale
from policies.teacher.embedded_server import serve_teacher
from tests.support.command_line import BASE_MODEL, copy_without, log_of, main, run_command, start_command
from tests.support.forked import run_forked, until
from tests.support.real_runs import jsonl_recipe, poll, query, write_recipe

pytestmark = pytest.mark.heavy


def test_ctrl_c_stops_after_the_batch_and_the_run_goes_on(image_questions: Path, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    start = ("run", "--config", "my_data", "--set", f"questions.path={image_questions}", "--run-dir", run_dir)
    process = start_command(*start, "--rounds", "0")
    until(lambda: poll(run_dir, "SELECT 1 FROM round WHERE number = 2") != [], process)
    busy = run_command(*start, check=1)
    assert f"in use by process {process.pid}" in busy.stderr
    process.kill(signal.SIGINT)
    stopped = process.wait()
    assert stopped.returncode == 130
    assert "stopped; everything done so far is kept" in stopped.stdout
    assert query(run_dir, "SELECT end_reason FROM session") == [("stopped",)]
    run_command(*start, "--rounds", "2")
    assert [row["round"] for row in log_of(run_dir)][:3] == [0, 1, 2]


def test_jsonl_questions_with_images_and_a_teacher_of_ones_own(image_questions: Path, tmp_path: Path) -> None:
    def write(question: str, answer: str | None, images: list[str]) -> str:
        assert len(images) == 1
        wrong = "maybe" if answer == "red" else answer
        return f"I look at it. It is {answer}.\n### Answer: {wrong}"

    with serve_teacher(write) as url:
        path = write_recipe(tmp_path, jsonl_recipe(BASE_MODEL, image_questions, f'base_url = "{url}"\nmodel = "m"'))
        missing = run_command("run", "--config", path, "--run-dir", tmp_path / "run", check=1, OPENAI_API_KEY="")
        assert "OPENAI_API_KEY is not set" in missing.stderr
        run_command("run", "--config", path, "--run-dir", tmp_path / "run", OPENAI_API_KEY="sk-test-of-the-key")
    start, first = log_of(tmp_path / "run")
    assert start["teacher_asked"] == 20
    assert 0 < start["teacher_kept"] < 20
    assert first["samples"] == 60 * 8
    assert first["pairs"] > 0
    assert first["accuracy"]["direct"]["accuracy"] > 0.5
    everything = b"".join(p.read_bytes() for p in (tmp_path / "run").rglob("*") if p.is_file())
    assert b"sk-test-of-the-key" not in everything


def test_text_only_questions_with_a_text_only_model(text_model: Path, tmp_path: Path) -> None:
    coin = random.Random(3)
    rows = [
        {"question": f"is item {n} red?", "answer": coin.choice(["yes", "no"]), "split": "test" if n < 30 else "train"}
        for n in range(120)
    ]
    questions = tmp_path / "questions.jsonl"
    questions.write_text("".join(json.dumps(row) + "\n" for row in rows))
    text = jsonl_recipe(text_model, questions).replace("epochs = 2", "epochs = 12").replace("3e-4", "3e-3")
    path = write_recipe(tmp_path, text.replace("temperature = 1.5", "temperature = 1.0"))
    run_command("run", "--config", path, "--run-dir", tmp_path / "run")
    start, first = log_of(tmp_path / "run")
    assert start["accuracy"]["direct"]["accuracy"] > 0.2
    assert first["samples"] == 60 * 8
    assert first["pairs"] > 0
    assert first["decision"] in ("accepted", "rejected")


def test_an_incomplete_model_is_named_without_a_traceback(image_questions: Path, tmp_path: Path) -> None:
    model = copy_without(tmp_path / "model", "processor_config.json")
    path = write_recipe(tmp_path, jsonl_recipe(model, image_questions))
    done = run_command("run", "--config", path, "--run-dir", tmp_path / "run", check=1)
    assert "processor_config.json is missing" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_model_directory_that_is_not_there_is_bad_input(image_questions: Path, tmp_path: Path) -> None:
    path = write_recipe(tmp_path, jsonl_recipe(tmp_path / "gone", image_questions))
    done = run_command("run", "--config", path, "--run-dir", tmp_path / "run", check=2)
    assert done.stderr.strip() == f"error: policy.model = '{tmp_path / 'gone'}': there is no such directory"


def test_a_recipe_that_failed_before_round_one_may_be_changed(image_questions: Path, tmp_path: Path) -> None:
    path, run_dir = write_recipe(tmp_path, jsonl_recipe(tmp_path / "nosuch", image_questions)), tmp_path / "run"
    failed = run_command("run", "--config", path, "--run-dir", run_dir, check=2)
    assert "policy.model" in failed.stderr
    path = write_recipe(tmp_path, jsonl_recipe(BASE_MODEL, image_questions, 'base_url = "http://127.0.0.1:9/v1"'))
    mended = run_command("run", "--config", path, "--run-dir", run_dir, check=1, OPENAI_API_KEY="")
    assert "another configuration" not in mended.stderr
    assert "OPENAI_API_KEY is not set" in mended.stderr


def test_a_text_only_model_refuses_questions_with_images(
    text_model: Path, image_questions: Path, tmp_path: Path
) -> None:
    path = write_recipe(tmp_path, jsonl_recipe(text_model, image_questions))
    done = run_command("run", "--config", path, "--run-dir", tmp_path / "run", check=2)
    assert "reads text only" in done.stderr


def test_an_unreachable_teacher_is_one_line_and_harms_nothing(image_questions: Path, tmp_path: Path) -> None:
    teacher = 'base_url = "http://127.0.0.1:9/v1"\nmodel = "m"\nattempts = 2'
    path = write_recipe(tmp_path, jsonl_recipe(BASE_MODEL, image_questions, teacher))
    done = run_command("run", "--config", path, "--run-dir", tmp_path / "run", check=1, OPENAI_API_KEY="sk-x")
    assert "teacher unreachable at http://127.0.0.1:9/v1" in done.stderr
    assert "Traceback" not in done.stderr
    assert query(tmp_path / "run", "PRAGMA integrity_check") == [("ok",)]


def run_on_small_disk(*arguments: object) -> None:
    """The command line where no file may grow beyond 200 kB."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
    main(*map(str, arguments))


def test_a_full_disk_stops_with_one_line_and_an_intact_store(image_questions: Path, tmp_path: Path) -> None:
    path = write_recipe(tmp_path, jsonl_recipe(BASE_MODEL, image_questions))
    done = run_forked(run_on_small_disk, "run", "--config", path, "--run-dir", tmp_path / "run", check=1)
    assert "the disk is full or failing" in done.stderr
    assert "Traceback" not in done.stderr
    assert query(tmp_path / "run", "PRAGMA integrity_check") == [("ok",)]


def test_the_shipped_teacher_knows_nothing_of_other_images() -> None:
    assert write_rationale("what color is it?", "red", ["0" * 64]) is None
