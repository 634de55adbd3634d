"""The whole loop through the command line: real vLLM, real TRL, real kills."""

import json
import random
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.command_line import log_of, run_command, run_new_command, start_command
from tests.support.forked import until
from tests.support.real_runs import SAME_EACH_TIME, SMALL_EASY_VQA, poll, query, write_recipe

pytestmark = pytest.mark.heavy


@pytest.fixture(scope="module")
def easy_vqa_recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """easy-VQA with the shipped model and endpoint, small; direct style, so that some answers are right."""
    return write_recipe(tmp_path_factory.mktemp("easy_vqa"), SMALL_EASY_VQA)


@pytest.fixture(scope="module")
def unbroken(easy_vqa_recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing interrupted, started as a user starts it."""
    run_dir = tmp_path_factory.mktemp("unbroken") / "run"
    run_new_command("run", "--config", easy_vqa_recipe, "--run-dir", run_dir)
    return run_dir


@pytest.fixture(scope="module")
def unbroken_content(unbroken: Path) -> dict[str, list[Any]]:
    """The content of that run's store when it had just finished."""
    return {table: query(unbroken, sql) for table, sql in SAME_EACH_TIME.items()}


def test_a_run_fills_the_store_and_prints_the_accuracy_log(unbroken: Path) -> None:
    start, first = log_of(unbroken)
    assert start["teacher_asked"] == 48
    assert start["decision"] == "accepted"
    assert first["samples"] == 150 * 8
    assert first["questions"] == 150
    assert first["pairs"] > 0
    assert first["training_loss"] > 0
    assert first["decision"] in ("accepted", "rejected")
    for style in ("cot", "direct"):
        figure = first["accuracy"][style]
        assert figure["questions"] == 300
        assert figure["low"] <= figure["accuracy"] <= figure["high"]
    assert set(first["seconds"]) == {"sample", "judge", "fallback", "pair", "update", "swap", "evaluate", "gate"}
    table = run_command("log", unbroken).stdout
    assert "held-out CoT" in table
    assert [line.split()[0] for line in table.splitlines()[:4]] == ["round", "base", "start", "1"]
    lines = (unbroken / "rounds.jsonl").read_text().splitlines()
    assert [json.loads(line)["round"] for line in lines] == [0, 1]


def test_the_engine_starts_once_and_swaps_are_proved_and_quick(unbroken: Path) -> None:
    assert query(unbroken, "SELECT engine_starts FROM session") == [(1,)]
    swaps = query(
        unbroken,
        "SELECT swap.policy, swap.sha256 = policy.sha256, probe_difference FROM swap"
        " JOIN policy ON policy.number = swap.policy ORDER BY swap.id",
    )
    assert [policy for policy, _, _ in swaps][:4] == [1, 0, 1, 2]
    assert all(same and difference < 1e-3 for _, same, difference in swaps)


def test_every_pair_leads_to_question_image_policy_and_seed(unbroken: Path) -> None:
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


def test_a_run_killed_in_three_phases_ends_like_an_unbroken_one(
    easy_vqa_recipe: Path, unbroken_content: dict[str, list[Any]], tmp_path: Path
) -> None:
    run_dir = tmp_path / "run"
    start = ("run", "--config", easy_vqa_recipe, "--run-dir", run_dir)

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
        process = start_command(*start, "--quiet")
        until(moment, process)
        process.kill()
    kept = count("sample WHERE author = 'policy'")
    assert kept == 1200
    run_command(*start)
    for table, sql in SAME_EACH_TIME.items():
        assert query(run_dir, sql) == unbroken_content[table], table
    assert query(run_dir, "PRAGMA foreign_key_check") == []
    assert query(run_dir, "PRAGMA integrity_check") == [("ok",)]
    assert [row[0] for row in query(run_dir, "SELECT end_reason FROM session")] == [None] * 5 + ["finished"]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_run_killed_at_random_ends_like_an_unbroken_one(
    easy_vqa_recipe: Path, unbroken_content: dict[str, list[Any]], tmp_path: Path
) -> None:
    run_dir = tmp_path / "run"
    start = ("run", "--config", easy_vqa_recipe, "--run-dir", run_dir)
    moments, kills = random.Random(11), 0
    for _ in range(12):
        process = start_command(*start, "--quiet")
        try:
            process.wait(moments.uniform(2, 16))
            break
        except subprocess.TimeoutExpired:
            process.kill()
            kills += 1
    assert kills >= 2  # as many as the machine's speed leaves room for
    run_command(*start)
    for table, sql in SAME_EACH_TIME.items():
        assert query(run_dir, sql) == unbroken_content[table], table
    assert "nothing wrong" in run_command("check", run_dir).stdout


def test_a_finished_run_continues_and_sees_added_questions(unbroken: Path, tmp_path: Path) -> None:
    file = tmp_path / "more.jsonl"
    file.write_text(json.dumps({"question": "what is brand new?", "answer": "this", "split": "train"}) + "\n")
    assert "1 new" in run_command("add", unbroken, file).stdout
    assert "0 new" in run_command("add", unbroken, file).stdout
    before = query(unbroken, "SELECT count(*) FROM sample")[0][0]
    run_command("run", "--run-dir", unbroken, "--rounds", "2")
    assert [row["round"] for row in log_of(unbroken)] == [0, 1, 2]
    assert query(unbroken, "SELECT count(*) FROM sample WHERE author = 'policy'")[0][0] >= before + 1200 - 48
    new = "SELECT count(*) FROM sample JOIN question ON question.id = question WHERE question.text LIKE '%brand new%'"
    assert query(unbroken, new)[0][0] > 0
    repeated = "SELECT count(*) FROM round_question GROUP BY question HAVING count(*) > 1"
    assert query(unbroken, repeated) == []
    assert (unbroken / "policies" / "current" / "model.safetensors").exists()


def test_another_configuration_is_refused_by_its_keys(unbroken: Path, easy_vqa_recipe: Path) -> None:
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


def test_a_bad_questions_file_adds_nothing(unbroken: Path, tmp_path: Path) -> None:
    before = query(unbroken, "SELECT count(*) FROM question")
    file = tmp_path / "bad.jsonl"
    file.write_text('{"question": "good?", "answer": "yes"}\n{"question": "bad?"}\n')
    done = run_command("add", unbroken, file, check=2)
    assert "line 2: needs 'answer'" in done.stderr
    assert query(unbroken, "SELECT count(*) FROM question") == before


@pytest.mark.slow
def test_votes_and_verifier_score_without_sampling_twice(unbroken: Path) -> None:
    done = [
        json.loads(run_command("evaluate", unbroken, "--policy", 2, "--best-of", 3, "--json").stdout) for _ in (1, 2)
    ]
    assert done[0] == done[1]
    figures = {each["name"]: each for each in done[0]["best_of"]}
    assert set(figures) == {"greedy", "one sample", "majority vote", "best of K", "weighted vote", "pass@K"}
    assert all(each["questions"] == 300 for each in figures.values())
    assert figures["pass@K"]["correct"] >= max(figures[name]["correct"] for name in ("one sample", "best of K"))
    assert figures["greedy"]["correct"] == done[0]["accuracy"]["direct"]["correct"]
    assert query(unbroken, "SELECT count(*) FROM evaluation_sample WHERE policy = 2") == [(900,)]
    (scores,) = query(unbroken, "SELECT count(*), sum(score != 0.0) FROM verifier_score WHERE reference = 1")
    assert 850 < scores[0] <= 900  # a chain with a stray image token has none
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
