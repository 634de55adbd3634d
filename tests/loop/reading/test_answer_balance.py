"""The balance of answers: shares of the labelled questions, and the weight of the pairs."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from loop.reading.answer_balance import answer_balance, given_answers
from store import Store, open_store
from store.pairs import NewPair, replace_pairs
from tests.support.looked_at_run import HOSTILE, RECURRING, make_run
from tests.support.stores import change

SAMPLE = "SELECT min(sample) FROM verdict JOIN sample ON sample.id = sample WHERE round = 2 AND extracted = ?"


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    return make_run(tmp_path / "run")


@pytest.fixture
def store(run_dir: Path) -> Iterator[Store]:
    opened = open_store(run_dir)
    yield opened
    opened.close()


def test_shares_are_those_of_serving_policy_and_candidate(store: Store) -> None:
    rows = {row["answer"]: row for row in answer_balance(store, 2, "cot", "test")}
    assert rows.keys() == {answer.lower() for answer in RECURRING}
    assert rows["no"]["accepted"] == pytest.approx(2 / 6)
    assert [rows["no"]["before"], rows["no"]["after"]] == pytest.approx([3 / 6, 4 / 6])
    assert sum(row["accepted"] for row in rows.values()) == pytest.approx(1)
    assert given_answers(store, 3, "cot", "test")["no"] == pytest.approx((2 / 6, 4 / 6))


def test_answers_are_sorted_by_frequency_then_text(store: Store) -> None:
    answers = [row["answer"] for row in answer_balance(store, 2, "cot", "test")]
    assert answers[0] == "no"
    assert answers[1:] == sorted(answers[1:])
    assert list(given_answers(store, 3, "cot", "test")) == answers


def test_questions_without_a_label_do_not_count(store: Store, run_dir: Path) -> None:
    change(run_dir, "UPDATE question SET answers = '[]' WHERE split = 'test' AND id > 18")
    rows = {row["answer"]: row for row in answer_balance(store, 2, "cot", "test")}
    assert "" not in rows
    assert rows["no"]["after"] == pytest.approx(4 / 6)


def test_pairs_count_for_one_answer_and_against_the_other(store: Store) -> None:
    red, script = (store.value(SAMPLE, HOSTILE[place]) for place in (3, 0))
    replace_pairs(store, 2, [NewPair(red, script, "random", 1.5)])
    rows = {row["answer"]: row for row in answer_balance(store, 2, "cot", "test")}
    red_row, script_row = rows[HOSTILE[3].lower()], rows[HOSTILE[0].lower()]
    assert (red_row["chosen"], red_row["rejected"]) == (1.5, 0)
    assert (script_row["chosen"], script_row["rejected"]) == (0, 1.5)


def test_no_candidate_or_no_recurring_answer_gives_no_rows(store: Store, run_dir: Path) -> None:
    change(run_dir, "UPDATE round SET candidate_policy = NULL WHERE number = 2")
    assert answer_balance(store, 2, "cot", "test") == []
    assert answer_balance(store, 99, "cot", "test") == []
    assert answer_balance(store, 1, "cot", "elsewhere") == []
