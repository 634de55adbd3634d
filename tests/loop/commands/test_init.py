"""`init`: a configuration of one's own, and what is said where the data is not what was meant."""

import json
import os
import pty
import subprocess
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from loop.config.load import load_config
from loop.planning.lengths import Questions
from loop.planning.machine import Machine
from loop.planning.memory import GIB
from loop.planning.proposal import Setting, propose, values
from policies.encoding import Encoder
from tests.loop.planning.test_fit import eight_billion
from tests.support.command_line import BASE_MODEL, command, run_command
from tests.support.scene_sets import write_scenes


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_scenes(tmp_path_factory.mktemp("scenes") / "scenes.parquet", 400)


def test_init_writes_a_commented_configuration_plan_and_prompts(scenes: Path, tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    done = run_command("init", file, "--data", scenes, "--yes")
    text = file.read_text()
    assert f'path = "{scenes}"' in text
    assert "# the answers are short texts" in text
    config = load_config(str(file), [])
    assert config.questions.columns == {
        "question": "question",
        "answer": "answer",
        "images": "image",
        "kind": "kind",
    }
    assert (config.questions.judge, config.sampling.style, config.teacher.enabled) == ("exact", "direct", False)
    assert config.engine.max_model_len == 64
    assert "it fits" in done.stdout
    assert done.stdout.count("judge exact says of") == 10
    assert done.stdout.count(": correct") == 10
    assert "Give a short answer.<end_of_utterance><|assistant|>" in done.stdout
    assert f"run --config {file}" in done.stdout
    program = next(line.split()[0] for line in done.stdout.splitlines() if f"run --config {file}" in line)
    assert Path(program).is_file()
    assert "before it can run" not in run_command("run", "--config", file, "--dry-run").stdout


def test_a_set_below_the_file_is_named_relative_to_it(scenes: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.parquet").write_bytes(scenes.read_bytes())
    run_command("init", tmp_path / "run.toml", "--data", tmp_path / "mine.parquet", "--yes")
    assert 'path = "./mine.parquet"' in (tmp_path / "run.toml").read_text()
    assert load_config(str(tmp_path / "run.toml"), []).questions.path == str(tmp_path / "mine.parquet")


def test_rows_in_the_projects_own_format_stay_a_jsonl_source(image_questions: Path, tmp_path: Path) -> None:
    run_command("init", tmp_path / "run.toml", "--data", image_questions, "--yes")
    questions = load_config(str(tmp_path / "run.toml"), []).questions
    assert (questions.source, questions.judge) == ("jsonl", "exact")


def test_what_options_say_is_taken(scenes: Path, tmp_path: Path) -> None:
    options = ("--judge", "exact(synonyms = true)", "--limit", 300, "--style", "cot", "--column", "kind=answer")
    run_command("init", tmp_path / "run.toml", "--data", scenes, "--yes", *options)
    config = load_config(str(tmp_path / "run.toml"), [])
    assert config.questions.judge == "exact(synonyms = true)"
    assert (config.questions.limit, config.sampling.style) == (300, "cot")
    assert config.questions.columns["kind"] == "answer"


def write(folder: Path, *rows: dict[str, Any]) -> Path:
    path = folder / "set.parquet"
    pq.write_table(pa.Table.from_pylist(list(rows)), path)
    return path


def test_init_shows_a_judge_that_refuses_accepted_answers(tmp_path: Path) -> None:
    rows = [{"question": f"{n}?", "answer": f"about {n}"} for n in range(100)]
    data = write(tmp_path, *rows)
    done = run_command("init", tmp_path / "run.toml", "--data", data, "--yes", "--judge", "regex(pattern = '\\d+')")
    assert "warning: judge regex(pattern = '\\d+') does not accept 10 of these 10 accepted answers" in done.stdout


def test_mistakes_are_one_line_and_write_nothing(scenes: Path, tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    bare = write(tmp_path, {"words": "?", "reply": "x"})
    for arguments, said in (
        (("--yes",), "--data is missing"),
        (("--data", scenes), "standard input is no terminal to ask on; add --yes"),
        (("--data", tmp_path / "gone.parquet", "--yes"), "there is no such file or folder"),
        (
            ("--data", bare, "--yes"),
            "the question or the answer: add --column question=COLUMN --column answer=COLUMN; there are words",
        ),
        (
            ("--data", bare, "--yes", "--column", "question=word"),
            "no column looks like the answer: add --column answer",
        ),
        (
            ("--data", bare, "--yes", "--column", "question=word", "--column", "answer=reply"),
            "has no column 'word'; did you mean 'words'?",
        ),
        (("--data", scenes, "--yes", "--column", "picture=image"), "no part of a question; known: question, answer"),
        (("--data", scenes, "--yes", "--column", "image"), "write it as --column NAME=VALUE"),
        (("--data", scenes, "--yes", "--split", "test=testing"), "has no split 'testing'"),
        (("--data", scenes, "--yes", "--judge", "nosuch"), "error: --judge: judge 'nosuch' is unknown"),
        (("--data", "mmstar", "--yes"), "is a benchmark with no split to train on"),
    ):
        done = run_command("init", file, *arguments, check=2)
        assert said in done.stderr, done.stderr
        assert len(done.stderr.strip().splitlines()) == 1, done.stderr
        assert not file.exists()
    file.write_text("mine")
    done = run_command("init", file, "--data", scenes, "--yes", check=2)
    assert "is there already" in done.stderr
    assert file.read_text() == "mine"


def test_on_a_terminal_it_asks_and_takes_the_answers(scenes: Path, tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    answers = [scenes, "", "", "", "", "", "", "", "-", ""]  # data, model, teacher, machine, five columns, write
    with subprocess.Popen(
        command("init", tmp_path / "run.toml"), stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        os.close(theirs)
        for answer in answers:
            os.write(ours, f"{answer}\n".encode())
            time.sleep(0.01)
        assert process.stdout is not None
        said = process.stdout.read().decode()
        assert process.wait() == 0, said
    os.close(ours)
    assert "Teacher (an endpoint's URL, or none) [none]" in said
    columns = load_config(str(tmp_path / "run.toml"), []).questions.columns
    assert columns == {"question": "question", "answer": "answer", "images": "image"}


@pytest.mark.parametrize(("cards", "changed"), [((80,), "learner"), ((200,), None), ((64,), "update")])
def test_a_large_model_gets_the_keys_that_make_it_fit_the_card(cards: tuple[int, ...], changed: str | None) -> None:
    machine = Machine(300 * GIB, tuple(card * GIB for card in cards), 10**15)
    given = {
        "policy": {"model": Setting(str(BASE_MODEL)), "dtype": Setting("bfloat16")},
        "questions": {"source": Setting("jsonl"), "path": Setting("/x.jsonl"), "judge": Setting("choice")},
        "teacher": {"enabled": Setting(False)},
        "sampling": {"style": Setting("cot")},
    }
    encoder = Encoder(str(BASE_MODEL), lambda _: None)  # type: ignore[arg-type, return-value]
    questions = Questions(["Which of them? " * 8], [((1024, 768),)], 1000, 10**9)
    found = propose(given, encoder, eight_billion(), questions, ["A"], 5000, machine)
    assert found.fits
    assert "option's letter after '### Answer:'" in found.config.prompts.cot
    assert found.config.update.gradient_checkpointing
    if changed is None:
        assert "learner" not in found.tables
    else:
        why = [setting.why for keys in found.tables.values() for setting in keys.values()]
        assert "so that it fits into this machine's memory" in why
        assert changed in found.tables
    assert json.loads(json.dumps(values(found.tables)))


def test_what_no_key_makes_fit_is_said() -> None:
    given = {
        "policy": {"model": Setting(str(BASE_MODEL))},
        "questions": {"source": Setting("jsonl"), "path": Setting("/x.jsonl")},
        "teacher": {"enabled": Setting(False)},
        "sampling": {"style": Setting("cot")},
    }
    encoder = Encoder(str(BASE_MODEL), lambda _: None)  # type: ignore[arg-type, return-value]
    machine = Machine(8 * GIB, (), 10**15)
    assert not propose(given, encoder, eight_billion(), Questions(["?"]), ["A"], 50, machine).fits
