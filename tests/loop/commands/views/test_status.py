"""`status`: one screen, and an exit code for scripts."""

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from loop.reading.run_status import SILENT_S
from loop.terminal.status_view import EXIT_CODES
from store import run_lock
from tests.support.stores import change, finished_run, run_here, shrink_last_round


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    return finished_run(tmp_path)


def state_of(run_dir: Path, code: int) -> dict[str, Any]:
    state: dict[str, Any] = json.loads(run_here("status", run_dir, "--json", check=code).stdout)
    assert EXIT_CODES[state["state"]] == code
    assert f"{run_dir}: {state['state']}" in run_here("status", run_dir, check=code).stdout
    return state


def test_a_run_that_did_its_rounds_is_finished(run_dir: Path) -> None:
    assert state_of(run_dir, 3)["state"] == "finished"


def test_what_is_served_is_the_candidate_once_it_is_accepted(run_dir: Path) -> None:
    made = "UPDATE round SET candidate_policy = (SELECT max(number) FROM policy), {} WHERE number = 2"
    served = state_of(run_dir, 3)["serving_policy"]
    change(run_dir, made.format("decision = NULL, phase = 'gate'"))
    before = state_of(run_dir, 4)
    assert before["candidate_policy"] is not None
    change(run_dir, made.format("decision = 'accepted', phase = 'done'"))
    after = state_of(run_dir, 3)
    assert (after["serving_policy"], after["candidate_policy"]) == (before["candidate_policy"], None)
    change(run_dir, made.format("decision = 'rejected', phase = 'done'"))
    assert state_of(run_dir, 3)["serving_policy"] == before["serving_policy"] <= served


def test_a_run_that_its_user_stopped_can_go_on(run_dir: Path) -> None:
    change(run_dir, "UPDATE session SET end_reason = 'stopped'", "UPDATE round SET phase = 'pair' WHERE number = 2")
    assert state_of(run_dir, 4)["state"] == "stopped"


def test_a_run_that_an_error_ended_names_it(run_dir: Path) -> None:
    change(run_dir, "UPDATE session SET end_reason = 'LoopError\x1b[2J'")
    assert state_of(run_dir, 4)["state"] == "stopped"
    assert "by LoopError\\x1b[2J" in run_here("status", run_dir, check=4).stdout


def test_a_run_whose_process_was_killed_is_stale(run_dir: Path) -> None:
    change(run_dir, "UPDATE session SET ended = NULL, end_reason = NULL")
    assert state_of(run_dir, 5)["state"] == "stale"
    assert "died without a message" in run_here("status", run_dir, check=5).stdout


def test_a_working_process_is_running_and_a_silent_one_stale(run_dir: Path) -> None:
    change(run_dir, "UPDATE session SET ended = NULL, end_reason = NULL")
    (run_dir / "run.log").touch()
    with run_lock(run_dir):
        state = state_of(run_dir, 0)
        assert (state["state"], state["pid"]) == ("running", os.getpid())
        long_ago = time.time() - SILENT_S - 5
        os.utime(run_dir / "run.log", (long_ago, long_ago))
        assert state_of(run_dir, 5)["state"] == "stale"


def test_an_evaluation_does_not_change_a_finished_runs_state(run_dir: Path) -> None:
    change(run_dir, "INSERT INTO session (pid, command, started) SELECT pid, 'evaluate', started FROM session LIMIT 1")
    assert state_of(run_dir, 3)["state"] == "finished"
    change(run_dir, "UPDATE session SET pid = ? WHERE command = 'evaluate'", parameters=(os.getpid(),))
    with run_lock(run_dir):
        assert state_of(run_dir, 0)["command"] == "evaluate"
        assert f"(process {os.getpid()}, evaluate" in run_here("status", run_dir, check=0).stdout


def test_the_codes_are_told_apart_from_failures(run_dir: Path, tmp_path: Path) -> None:
    assert not {1, 2, 130} & set(EXIT_CODES.values())
    assert len(set(EXIT_CODES.values())) == len(EXIT_CODES)
    assert "holds no run" in run_here("status", tmp_path / "nowhere", check=2).stderr


def test_an_open_phase_shows_progress_and_time_left(run_dir: Path) -> None:
    change(
        run_dir,
        "UPDATE round SET phase = 'sample' WHERE number = 2",
        "UPDATE run SET configuration = json_set(configuration, '$.sampling.samples', 8)",
        "UPDATE sample SET created = 1000 + 2 * id WHERE round = 2",
        "DELETE FROM round_summary WHERE round = 2",
    )
    with run_lock(run_dir):
        shown = run_here("status", run_dir).stdout
        state = json.loads(run_here("status", run_dir, "--json").stdout)
    assert (state["done"], state["total"]) == (32, 64)
    assert state["per_second"] == pytest.approx(0.5)
    assert "32 of 64, 0.5 per second, 1m04s left" in shown
    assert "round     2 of 2, phase sample" in shown
    assert "not judged yet" in shown


def test_sampling_progress_counts_the_samples_of_its_turn(run_dir: Path) -> None:
    change(
        run_dir,
        "UPDATE round SET phase = 'sample' WHERE number = 2",
        """UPDATE run SET configuration = json_set(configuration, '$.stages', json('{"samples": [2, 5]}'))""",
    )
    assert state_of(run_dir, 4)["total"] == 8 * 5


GATE_QUESTIONS = """UPDATE question SET split = 'gate'
    WHERE id IN (SELECT id FROM question WHERE split = 'train' LIMIT 4)"""
ANSWERS = """INSERT INTO evaluation (policy, split, style, question, text, tokens, finish_reason, judge, judge_version,
    score, outcome, created) SELECT {policy}, 'gate', '{style}', id, '', 1, 'stop', 'exact', '1', 1.0, 'correct',
    1000 + id FROM question WHERE split = 'gate' LIMIT {count}"""


def test_evaluation_progress_counts_reported_questions_only(run_dir: Path) -> None:
    change(run_dir, "UPDATE round SET phase = 'evaluate' WHERE number = 2", GATE_QUESTIONS)
    change(run_dir, ANSWERS.format(policy=3, style="direct", count=4))
    change(run_dir, "DELETE FROM evaluation WHERE policy = 3 AND split = 'test' AND question > 6")
    state = state_of(run_dir, 4)
    assert (state["done"], state["total"], state["at_most"]) == (2 * 6, 2 * 8, None)


def test_cold_start_progress_counts_the_base_models_answers(run_dir: Path) -> None:
    change(run_dir, "PRAGMA foreign_keys = OFF", "DELETE FROM round WHERE number > 0")
    change(run_dir, "UPDATE round SET phase = 'evaluate', decision = NULL")
    state = state_of(run_dir, 4)
    assert (state["done"], state["total"]) == (2 * 2 * 8, 2 * 2 * 8)


def test_a_round_without_a_candidate_has_nothing_to_evaluate(run_dir: Path) -> None:
    change(run_dir, "UPDATE round SET phase = 'evaluate', candidate_policy = NULL WHERE number = 2")
    state = state_of(run_dir, 4)
    assert (state["done"], state["total"], state["at_most"]) == (None, None, None)


@pytest.mark.parametrize(
    ("gate", "at_most"),
    [
        ({"rule": "sequential", "guard": []}, 4),
        ({"rule": "sequential", "guard": ["cot"]}, 8),
        ({"rule": "sequential", "guard": ["cot"], "limit": 3}, 6),
        ({"rule": "always", "guard": ["cot"]}, 4),
    ],
)
def test_the_gate_has_no_total_but_an_upper_limit(run_dir: Path, gate: dict[str, Any], at_most: int) -> None:
    change(run_dir, "UPDATE round SET phase = 'gate', decision = NULL WHERE number = 2", GATE_QUESTIONS)
    change(run_dir, ANSWERS.format(policy=3, style="direct", count=3))
    sets = "UPDATE run SET configuration = json_set(configuration, '$.gate', json(?))"
    change(run_dir, sets, parameters=(json.dumps(gate),))
    with run_lock(run_dir):
        state = state_of(run_dir, 0)
        shown = run_here("status", run_dir).stdout
    assert (state["done"], state["total"], state["at_most"]) == (3, None, at_most)
    assert state["per_second"] == pytest.approx(1.0)
    assert f"progress  3 of at most {at_most} answers, 1.0 per second" in shown
    assert " left" not in shown


def test_the_gate_shows_the_progress_of_the_shrunk_candidate(run_dir: Path) -> None:
    shrunk = shrink_last_round(run_dir)
    change(run_dir, "UPDATE round SET phase = 'gate', decision = NULL, candidate_policy = 3 WHERE number = 2")
    change(
        run_dir, GATE_QUESTIONS, *(ANSWERS.format(policy=p, style="direct", count=n) for p, n in ((3, 4), (shrunk, 2)))
    )
    assert (state_of(run_dir, 4)["done"], state_of(run_dir, 4)["at_most"]) == (2, 4)


def test_an_accepted_shrunk_policy_has_a_known_total(run_dir: Path) -> None:
    shrunk = shrink_last_round(run_dir)
    change(run_dir, "UPDATE round SET phase = 'gate' WHERE number = 2", GATE_QUESTIONS)
    change(run_dir, f"DELETE FROM evaluation WHERE policy = {shrunk} AND style = 'cot'")
    state = state_of(run_dir, 4)
    assert (state["done"], state["total"], state["at_most"]) == (8, 16, None)


def test_status_names_the_best_and_the_last_accepted_policy(run_dir: Path) -> None:
    assert "best      policy 3 (round 2)\n" in run_here("status", run_dir, check=3).stdout
    shrunk = shrink_last_round(run_dir, best=2)
    state = state_of(run_dir, 3)
    assert (state["serving_policy"], state["last_accepted_policy"]) == (2, shrunk)
    shown = run_here("status", run_dir, check=3).stdout
    assert f"best      policy 2 (round 1), by the gate's questions; rounds go on from policy {shrunk}\n" in shown
    assert "in round 2 (shrunk 0.5)" in shown


def test_a_run_without_a_round_says_so(run_dir: Path) -> None:
    change(run_dir, "PRAGMA foreign_keys = OFF", "DELETE FROM round")
    assert "no round has started" in run_here("status", run_dir, check=4).stdout
