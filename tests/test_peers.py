"""The benchmark of peers: what a script learns from its chains, and what the table says."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.peers.__main__ import table
from benchmarks.peers.data import Row
from benchmarks.peers.generate import Output
from benchmarks.peers.script import preferred
from store import open_store
from store.new_questions import NewQuestion, add_questions
from store.questions import find_questions

pytestmark = pytest.mark.heavy


@pytest.fixture
def output(tmp_path: Path) -> Callable[[int, str, float], Output]:
    store = open_store(tmp_path, create=True)
    add_questions(store, (NewQuestion(f"q{n}?", ["red"], [], "train", "test", "exact") for n in range(3)))
    rows = [Row(question, "think", "answer", ()) for question in find_questions(store, "1 ORDER BY id")]
    store.close()
    return lambda number, text, logprob: Output(rows[number], text, logprob, rows[number].is_right(text))


def test_the_script_pairs_the_likeliest_right_and_wrong_chain(
    output: Callable[[int, str, float], Output],
) -> None:
    right, wrong = "It is red. ### Answer: red", "It is blue. ### Answer: blue"
    chains = [output(0, f"{n} {text}", -n) for n, text in enumerate((wrong, right, right, wrong), 1)]
    alone = [output(1, right, -1.0), output(2, wrong, -1.0)]
    (row,) = preferred([*chains, *alone], random.Random(0), likeliest=True)
    assert row["chosen"][0]["content"] == f"2 {right}"
    assert row["rejected"][0]["content"] == f"1 {wrong}"


def test_a_chain_without_an_answer_line_or_cut_off_is_wrong(output: Callable[[int, str, float], Output]) -> None:
    row = output(0, "", 0.0).row
    assert row.is_right("It is red. ### Answer: red")
    assert not row.is_right("red")
    assert not row.is_right("It is red. ### Answer: red", stopped=False)


def test_the_table_says_when_an_accuracy_was_reached() -> None:
    rounds = [
        {"round": n, "seconds": 50.0 * n, "chains": 6000 * n, "cot": cot} for n, cot in enumerate((0.8, 0.91, 0.94), 1)
    ]
    last = table([{"arm": "loop", "seed": 3, "rounds": rounds}]).splitlines()[-1]
    assert last == "| loop | 3 | 50 | 120 | 80.0, 91.0, 94.0 | 100 | never in 150 |"
