"""The whole loop through the real command line: real vLLM, real TRL, real kills."""

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from loop.questions.sources.easy_vqa import write_rationale
from policies.teacher.embedded_server import serve_teacher
from tests.support.command_line import BASE_MODEL, PROJECT, SMALL_ENGINE, command, copy_without, log_of, run_command

SAME_EACH_TIME = {
    "question": "SELECT hash, split FROM question ORDER BY id",
    "round": "SELECT number, phase FROM round ORDER BY number",
    "round_question": "SELECT round, position, question FROM round_question ORDER BY 1, 2",
    "sample": 'SELECT round, question, author, policy, style, "index", seed FROM sample ORDER BY 1, 2, 3, 4, 5, 6',
    "verdict": "SELECT count(*), count(DISTINCT sample) FROM verdict",
    "teacher_call": "SELECT hash, purpose FROM teacher_call WHERE purpose = 'cold_start' ORDER BY hash",
    "policy": "SELECT number, parent, made_by FROM policy ORDER BY number",
    "evaluation": "SELECT policy, split, style, question FROM evaluation ORDER BY 1, 2, 3, 4",
}


def query(run_dir: Path, sql: str) -> list[tuple]:
    """Rows of the store, read as any other program would: plain sqlite3, while the run writes."""
    connection = sqlite3.connect(f"file:{run_dir / 'store.db'}?mode=ro", uri=True, timeout=10)
    try:
        return connection.execute(sql).fetchall()
    finally:
        connection.close()


def poll(run_dir: Path, sql: str) -> list[tuple]:
    """The same while the store may not be there yet."""
    try:
        return query(run_dir, sql)
    except sqlite3.OperationalError:
        return []


def recipe(folder: Path, text: str) -> Path:
    path = folder / "recipe.toml"
    path.write_text(text + SMALL_ENGINE)
    return path


@pytest.fixture(scope="module")
def easy_vqa_recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """easy-VQA with the shipped model and endpoint, small; direct style, so that some answers are right."""
    return recipe(
        tmp_path_factory.mktemp("easy_vqa"),
        f"""
[run]
rounds = 1
[policy]
model = "{BASE_MODEL}"
dtype = "float32"
[questions]
source = "easy_vqa"
train_limit = 600
[teacher]
base_url = "embedded"
model = "embedded-teacher"
[cold_start]
rationales = 48
direct_items = 64
format_items = 16
learning_rate = 1e-3
epochs = 2
[sampling]
questions = 250
samples = 8
style = "direct"
max_tokens = 12
[pairs]
per_question = 2
[update]
learning_rate = 1e-5
batch_size = 16
losses = {{ sigmoid = 0.2, sft = 1.0 }}
[evaluation]
limit = 600
max_tokens = 12
""",
    )


@pytest.fixture(scope="module")
def unbroken(easy_vqa_recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing interrupted."""
    run_dir = tmp_path_factory.mktemp("unbroken") / "run"
    run_command("run", "--config", easy_vqa_recipe, "--run-dir", run_dir)
    return run_dir


@pytest.fixture(scope="module")
def unbroken_content(unbroken: Path) -> dict[str, list[tuple]]:
    """What that run's store held when it had just finished."""
    return {table: query(unbroken, sql) for table, sql in SAME_EACH_TIME.items()}


def test_a_run_fills_the_store_and_prints_the_accuracy_log(unbroken: Path) -> None:
    start, first = log_of(unbroken)
    assert start["teacher_asked"] == 48
    assert start["decision"] == "accepted"
    assert first["samples"] == 250 * 8
    assert first["questions"] == 250
    assert first["pairs"] > 0
    assert first["training_loss"] > 0
    assert first["decision"] in ("accepted", "rejected")
    for style in ("cot", "direct"):
        figure = first["accuracy"][style]
        assert figure["questions"] == 600
        assert figure["low"] <= figure["accuracy"] <= figure["high"]
    assert set(first["seconds"]) == {"sample", "judge", "fallback", "pair", "update", "swap", "evaluate", "gate"}
    table = run_command("log", unbroken).stdout
    assert "held-out CoT" in table
    assert [line.split()[0] for line in table.splitlines()[:4]] == ["round", "base", "start", "1"]
    lines = (unbroken / "rounds.jsonl").read_text().splitlines()
    assert [json.loads(line)["round"] for line in lines] == [0, 1]


def test_the_engine_starts_once_and_every_swap_is_proved_and_quick(unbroken: Path) -> None:
    assert query(unbroken, "SELECT engine_starts FROM session") == [(1,)]
    swaps = query(
        unbroken,
        "SELECT swap.policy, swap.sha256 = policy.sha256, probe_difference FROM swap"
        " JOIN policy ON policy.number = swap.policy ORDER BY swap.id",
    )
    assert [policy for policy, _, _ in swaps][:4] == [1, 0, 1, 2]
    assert all(same and difference < 1e-3 for _, same, difference in swaps)


def test_provenance_leads_from_every_pair_to_question_image_policy_and_seed(unbroken: Path) -> None:
    rows = query(
        unbroken,
        """SELECT chosen.text, rejected.text, question.text, question_image.image, policy.sha256, chosen.seed,
                  verdict.judge, verdict.judge_version
           FROM pair JOIN sample AS chosen ON chosen.id = pair.chosen
           JOIN sample AS rejected ON rejected.id = pair.rejected AND rejected.question = chosen.question
           JOIN question ON question.id = chosen.question JOIN question_image ON question_image.question = question.id
           JOIN policy ON policy.number = chosen.policy JOIN verdict ON verdict.sample = chosen.id
           WHERE pair.rule = 'random' AND verdict.outcome = 'correct'""",
    )
    assert len(rows) == query(unbroken, "SELECT count(*) FROM pair WHERE rule = 'random'")[0][0] > 0
    assert all(all(value is not None for value in row) for row in rows)


def kill_when(process: subprocess.Popen, ready: Callable[[], bool], how: int = signal.SIGKILL) -> None:
    deadline = time.monotonic() + 300
    while not ready():
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline, "the run never got there"
        time.sleep(0.01)
    os.killpg(process.pid, how)
    process.wait()


def test_killed_while_sampling_training_and_evaluating_it_ends_like_an_unbroken_run(
    easy_vqa_recipe: Path, unbroken_content: dict[str, list[tuple]], tmp_path: Path
) -> None:
    run_dir = tmp_path / "run"
    start = command("run", "--config", easy_vqa_recipe, "--run-dir", run_dir, "--quiet")

    def phase() -> str:
        rows = poll(run_dir, "SELECT number || phase FROM round ORDER BY number DESC LIMIT 1")
        return rows[0][0] if rows else ""

    def count(sql: str) -> int:
        rows = poll(run_dir, f"SELECT count(*) FROM {sql}")
        return rows[0][0] if rows else 0

    moments: list[Callable[[], bool]] = [
        lambda: phase() == "0distil" and count("teacher_call") >= 5,
        lambda: phase() == "0update" and (run_dir / "training").exists(),
        lambda: phase() == "1sample" and count("sample WHERE author = 'policy'") >= 512,
        lambda: phase() == "1update",
        lambda: phase() == "1evaluate" and count("evaluation WHERE policy = 2") >= 512,
    ]
    for moment in moments:
        kill_when(subprocess.Popen(start, cwd=PROJECT, start_new_session=True), moment)
    kept = count("sample WHERE author = 'policy'")
    assert kept == 2000
    run_command("run", "--config", easy_vqa_recipe, "--run-dir", run_dir)
    for table, sql in SAME_EACH_TIME.items():
        assert query(run_dir, sql) == unbroken_content[table], table
    assert query(run_dir, "PRAGMA foreign_key_check") == []
    assert query(run_dir, "PRAGMA integrity_check") == [("ok",)]
    assert [row[0] for row in query(run_dir, "SELECT end_reason FROM session")] == [None] * 5 + ["finished"]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_killed_at_up_to_a_dozen_random_moments_it_ends_like_an_unbroken_run(
    easy_vqa_recipe: Path, unbroken_content: dict[str, list[tuple]], tmp_path: Path
) -> None:
    run_dir = tmp_path / "run"
    start = command("run", "--config", easy_vqa_recipe, "--run-dir", run_dir, "--quiet")
    moments, kills = random.Random(11), 0
    for _ in range(12):
        process = subprocess.Popen(start, cwd=PROJECT, start_new_session=True)
        try:
            process.wait(moments.uniform(18, 38))
            break
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            kills += 1
    assert kills >= 2  # as many as the machine's speed leaves room for
    run_command("run", "--config", easy_vqa_recipe, "--run-dir", run_dir)
    for table, sql in SAME_EACH_TIME.items():
        assert query(run_dir, sql) == unbroken_content[table], table
    assert "nothing wrong" in run_command("check", run_dir).stdout


def test_a_finished_run_goes_on_with_more_rounds_and_sees_added_questions(unbroken: Path, easy_vqa_recipe, tmp_path):
    file = tmp_path / "more.jsonl"
    file.write_text(json.dumps({"question": "what is brand new?", "answer": "this", "split": "train"}) + "\n")
    assert "1 new" in run_command("add", unbroken, file).stdout
    assert "0 new" in run_command("add", unbroken, file).stdout
    before = query(unbroken, "SELECT count(*) FROM sample")[0][0]
    run_command("run", "--config", easy_vqa_recipe, "--run-dir", unbroken, "--rounds", "2")
    assert [row["round"] for row in log_of(unbroken)] == [0, 1, 2]
    assert query(unbroken, "SELECT count(*) FROM sample WHERE author = 'policy'")[0][0] >= before + 2000 - 48
    new = "SELECT count(*) FROM sample JOIN question ON question.id = question WHERE question.text LIKE '%brand new%'"
    assert query(unbroken, new)[0][0] > 0
    repeated = "SELECT count(*) FROM round_question GROUP BY question HAVING count(*) > 1"
    assert query(unbroken, repeated) == []
    assert (unbroken / "policies" / "current" / "model.safetensors").exists()


def test_another_configuration_is_refused_with_the_keys_that_differ(unbroken: Path, easy_vqa_recipe: Path) -> None:
    done = run_command("run", "--config", easy_vqa_recipe, "--run-dir", unbroken, "--set", "update.beta=0.7", check=2)
    assert "update.beta (0.1 in the run, 0.7 now)" in done.stderr
    assert "Traceback" not in done.stderr


def test_altered_weights_are_never_served(unbroken: Path, easy_vqa_recipe: Path) -> None:
    ((candidate,),) = query(
        unbroken, "SELECT coalesce(max(candidate_policy), 0) FROM round WHERE decision = 'accepted'"
    )
    file = unbroken / f"policies/{candidate:04d}" / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    done = run_command("run", "--config", easy_vqa_recipe, "--run-dir", unbroken, "--rounds", "3", check=1)
    assert "they were altered" in done.stderr
    assert "Traceback" not in done.stderr


def test_ctrl_c_stops_after_the_batch_and_the_run_goes_on(image_questions: Path, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    start = ("run", "--config", "my_data", "--set", f"questions.path={image_questions}", "--run-dir", run_dir)
    process = subprocess.Popen(
        command(*start, "--rounds", "0"),
        cwd=PROJECT,
        start_new_session=True,
        stdout=subprocess.PIPE,
        text=True,
    )

    def in_round_two() -> bool:
        return poll(run_dir, "SELECT 1 FROM round WHERE number = 2") != []

    deadline = time.monotonic() + 300
    while not in_round_two():
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.02)
    busy = run_command(*start, check=1)
    assert f"in use by process {process.pid}" in busy.stderr
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "stopped; everything done so far is kept" in output
    assert query(run_dir, "SELECT end_reason FROM session") == [("stopped",)]
    run_command(*start, "--rounds", "2")
    assert [row["round"] for row in log_of(run_dir)][:3] == [0, 1, 2]


def jsonl_recipe(model: Path, questions: Path, teacher: str = "enabled = false") -> str:
    return f"""
[run]
rounds = 1
[policy]
model = "{model}"
dtype = "float32"
[questions]
source = "jsonl"
path = "{questions}"
[prompts]
direct = "{{question}} Give a short answer."
[teacher]
{teacher}
[cold_start]
rationales = 20
direct_items = 60
format_items = 16
learning_rate = 3e-4
epochs = 2
[sampling]
questions = 60
samples = 8
style = "direct"
temperature = 1.5
max_tokens = 8
[update]
learning_rate = 1e-5
[evaluation]
max_tokens = 8
"""


def test_jsonl_questions_with_images_and_a_teacher_of_ones_own(image_questions: Path, tmp_path: Path) -> None:
    def write(question: str, answer: str, images: list[str]) -> str:
        assert len(images) == 1
        wrong = "maybe" if answer == "red" else answer
        return f"I look at it. It is {answer}.\n### Answer: {wrong}"

    with serve_teacher(write) as url:
        path = recipe(tmp_path, jsonl_recipe(BASE_MODEL, image_questions, f'base_url = "{url}"\nmodel = "m"'))
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
    path = recipe(tmp_path, text.replace("temperature = 1.5", "temperature = 1.0"))
    run_command("run", "--config", path, "--run-dir", tmp_path / "run")
    start, first = log_of(tmp_path / "run")
    assert start["accuracy"]["direct"]["accuracy"] > 0.2
    assert first["samples"] == 60 * 8
    assert first["pairs"] > 0
    assert first["decision"] in ("accepted", "rejected")


def test_an_incomplete_model_directory_is_named_without_a_traceback(image_questions: Path, tmp_path: Path) -> None:
    model = copy_without(tmp_path / "model", "processor_config.json")
    path = recipe(tmp_path, jsonl_recipe(model, image_questions))
    done = run_command("run", "--config", path, "--run-dir", tmp_path / "run", check=1)
    assert "processor_config.json is missing" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_recipe_that_failed_before_its_first_round_may_be_mended(image_questions: Path, tmp_path: Path) -> None:
    path, run_dir = recipe(tmp_path, jsonl_recipe(tmp_path / "nosuch", image_questions)), tmp_path / "run"
    failed = run_command("run", "--config", path, "--run-dir", run_dir, check=1)
    assert "policy.model" in failed.stderr
    path = recipe(tmp_path, jsonl_recipe(BASE_MODEL, image_questions, 'base_url = "http://127.0.0.1:9/v1"'))
    mended = run_command("run", "--config", path, "--run-dir", run_dir, check=1, OPENAI_API_KEY="")
    assert "another configuration" not in mended.stderr
    assert "OPENAI_API_KEY is not set" in mended.stderr


def test_a_text_only_model_refuses_questions_with_images(text_model: Path, image_questions: Path, tmp_path: Path):
    path = recipe(tmp_path, jsonl_recipe(text_model, image_questions))
    done = run_command("run", "--config", path, "--run-dir", tmp_path / "run", check=2)
    assert "reads text only" in done.stderr


def test_an_unreachable_teacher_stops_with_one_line_and_an_intact_store(image_questions: Path, tmp_path: Path) -> None:
    teacher = 'base_url = "http://127.0.0.1:9/v1"\nmodel = "m"\nattempts = 2'
    path = recipe(tmp_path, jsonl_recipe(BASE_MODEL, image_questions, teacher))
    done = run_command("run", "--config", path, "--run-dir", tmp_path / "run", check=1, OPENAI_API_KEY="sk-x")
    assert "teacher unreachable at http://127.0.0.1:9/v1" in done.stderr
    assert "Traceback" not in done.stderr
    assert query(tmp_path / "run", "PRAGMA integrity_check") == [("ok",)]


def test_a_full_disk_stops_with_one_line_and_an_intact_store(image_questions: Path, tmp_path: Path) -> None:
    path = recipe(tmp_path, jsonl_recipe(BASE_MODEL, image_questions))
    limited = "import resource,runpy,signal,sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
    limited += " resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000));"
    limited += " sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    arguments = command("run", "--config", path, "--run-dir", tmp_path / "run")
    done = subprocess.run(
        [sys.executable, "-c", limited, *arguments[1:]], cwd=PROJECT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "the disk is full or failing" in done.stderr
    assert "Traceback" not in done.stderr
    assert query(tmp_path / "run", "PRAGMA integrity_check") == [("ok",)]


def test_a_bad_questions_file_adds_nothing(unbroken: Path, tmp_path: Path) -> None:
    before = query(unbroken, "SELECT count(*) FROM question")
    file = tmp_path / "bad.jsonl"
    file.write_text('{"question": "good?", "answer": "yes"}\n{"question": "bad?"}\n')
    done = run_command("add", unbroken, file, check=2)
    assert "line 2: needs 'answer'" in done.stderr
    assert query(unbroken, "SELECT count(*) FROM question") == before


def test_the_shipped_teacher_knows_nothing_of_other_images() -> None:
    assert write_rationale("what color is it?", "red", ["0" * 64]) is None


@pytest.mark.slow
def test_a_policy_is_scored_by_votes_and_verifier_and_nothing_is_sampled_twice(unbroken: Path) -> None:
    done = [
        json.loads(run_command("evaluate", unbroken, "--policy", 2, "--best-of", 3, "--json").stdout) for _ in (1, 2)
    ]
    assert done[0] == done[1]
    figures = {each["name"]: each for each in done[0]["best_of"]}
    assert set(figures) == {"greedy", "one sample", "majority vote", "best of K", "weighted vote", "pass@K"}
    assert all(each["questions"] == 600 for each in figures.values())
    assert figures["pass@K"]["correct"] >= max(figures[name]["correct"] for name in ("one sample", "best of K"))
    assert figures["greedy"]["correct"] == done[0]["accuracy"]["direct"]["correct"]
    assert query(unbroken, "SELECT count(*) FROM evaluation_sample WHERE policy = 2") == [(1800,)]
    (scores,) = query(unbroken, "SELECT count(*), sum(score != 0.0) FROM verifier_score WHERE reference = 1")
    assert 1700 < scores[0] <= 1800  # a chain with a stray image token has none
    assert scores[1] > 0
    by_later = run_command("evaluate", unbroken, "--policy", 1, "--reference", 2, "--best-of", 2).stdout
    assert "best of 2, verified by policy 2 over policy 1" in by_later
    # Whoever of the two wrote a chain, its score is the same.
    scored = (
        "SELECT question, token_ids, verifier_score.score FROM evaluation_sample JOIN verifier_score ON sample = id"
    )
    twice = query(
        unbroken,
        f"SELECT DISTINCT one.score, two.score FROM ({scored} WHERE policy = 1) AS one"
        f" JOIN ({scored} WHERE policy = 2) AS two USING (question, token_ids)",
    )
    assert len(twice) > 50
    assert all(mine == pytest.approx(theirs, abs=1e-3) for mine, theirs in twice)
    assert any(abs(mine) > 0.01 for mine, _ in twice)
    refused = run_command("evaluate", unbroken, "--policy", 1, "--best-of", 3, check=2)
    assert "its own reference" in refused.stderr
    assert "has no question of split 'none'" in run_command("evaluate", unbroken, "--split", "none", check=2).stderr
