"""The gate and the best-of-N reader without a run, and the example that calls them from TRL."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loop.evaluation.for_trainers import BestOf, gate, gate_asking, read_best_of
from tests.support.command_line import PROJECT


def chain(answer: str) -> str:
    return f"So it is.\n### Answer: {answer}"


def test_a_better_candidate_is_accepted_a_worse_one_rejected() -> None:
    better = gate([1.0] * 300 + [0.0] * 100, [0.0] * 100 + [1.0] * 100 + [0.0] * 200)
    assert (better.accepted, better.better) == (True, True)
    worse = gate([0.0] * 400, [1.0] * 200 + [0.0] * 200)
    assert (worse.accepted, worse.better) == (False, False)
    assert worse.reason == "-50.0 points (standard error 2.5) on 400 questions"


def test_an_equal_candidate_is_accepted_and_the_best_stays() -> None:
    same = gate([1.0, 0.0] * 200, [1.0, 0.0] * 200)
    assert (same.accepted, same.better) == (True, False)


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60))
def test_asked_bit_by_bit_no_question_is_asked_twice(right: list[tuple[bool, bool]]) -> None:
    asked: list[int] = []

    def ask(places: range) -> tuple[list[float], list[float]]:
        asked.extend(places)
        return [float(right[n][0]) for n in places], [float(right[n][1]) for n in places]

    found = gate_asking(ask, len(right), first_look=8)
    assert asked == list(range(len(asked)))
    assert found.seen.questions == len(asked)
    if len(asked) == len(right):
        assert found.seen == gate([float(a) for a, _ in right], [float(b) for _, b in right]).seen


@pytest.mark.parametrize(("mine", "theirs"), [([1.0], [1.0, 0.0]), ([], [])])
def test_scores_that_do_not_belong_together_are_refused(mine: list[float], theirs: list[float]) -> None:
    with pytest.raises(ValueError, match="give a score for each question"):
        gate(mine, theirs)


def test_outputs_are_read_by_vote_and_by_the_verifier() -> None:
    outputs = [chain("4"), chain("4.0"), chain("5"), "no answer"]
    assert read_best_of(outputs, judge="numeric") == BestOf("4", None, None)
    scores = [[-2.0, 1.0], [-3.0], [0.5, 0.4], [9.0]]
    assert read_best_of(outputs, scores, judge="numeric") == BestOf("4", "5", "5")
    assert read_best_of(["nothing"], [[1.0]]) == BestOf(None, None, None)


@pytest.mark.heavy
def test_the_example_trains_with_trl_and_keeps_the_best_weights(text_model: Path, tmp_path: Path) -> None:
    arguments = [text_model, tmp_path / "out", "--steps", 4, "--every", 2, "--tokens", 4]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(PROJECT / "examples" / "trl_gate.py"), *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        cwd=PROJECT,
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
        timeout=500,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "step 2: " in done.stdout
    assert "step 4: " in done.stdout
    assert "By vote: " in done.stdout
    assert (tmp_path / "out" / "best" / "model.safetensors").is_file()
