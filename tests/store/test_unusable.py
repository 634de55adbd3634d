"""Unusable questions: never drawn or asked, their rows kept, and put back by one call."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from store import Store, StoreError, open_store
from store.maintenance.check import find_faults
from store.new_questions import NewQuestion, add_questions
from store.questions import candidate_questions, first_question_ids, train_answers
from store.unusable import (
    count_unusable,
    drawn_by_open_round,
    drop_questions,
    mark_refused,
    put_back_questions,
    unusable_questions,
)
from tests.support.stores import change, finished_run


def question(number: int, split: str = "train", unit: str | None = None, unusable: str | None = None) -> NewQuestion:
    where = f"row {number}"
    return NewQuestion(
        f"what is {number}?", ["red"], [], split, "test", "exact", where=where, unit=unit, unusable=unusable
    )


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = open_store(tmp_path, create=True)
    add_questions(opened, [question(1), question(2, unit="u"), question(3, unit="u"), question(4, "test")])
    yield opened
    opened.close()


def candidates(store: Store) -> list[int]:
    return sorted(candidate[0] for candidate in candidate_questions(store, unanswered=True))


def test_a_dropped_question_is_unused_until_put_back(store: Store) -> None:
    assert drop_questions(store, [1, 4], "wrong answer") == [1, 4]
    assert unusable_questions(store) == {1: "dropped: wrong answer", 4: "dropped: wrong answer"}
    assert candidates(store) == [2, 3]
    assert sorted(each for each, _ in train_answers(store)) == [2, 3]
    assert first_question_ids(store, "test", 9) == []
    assert put_back_questions(store, [1, 4]) == [1, 4]
    assert count_unusable(store) == 0
    assert candidates(store) == [1, 2, 3]
    assert first_question_ids(store, "test", 9) == [4]


def test_the_questions_of_a_unit_go_and_come_together(store: Store) -> None:
    assert drop_questions(store, [3], "unclear") == [2, 3]
    assert candidates(store) == [1]
    assert put_back_questions(store, [2]) == [2, 3]


def test_a_unit_with_a_too_long_question_is_unusable(store: Store) -> None:
    add_questions(store, [question(5, unit="v"), question(6, unit="v", unusable="too long"), question(7)])
    assert unusable_questions(store) == {5: "too long", 6: "too long"}


def test_an_id_that_no_question_has_changes_nothing(store: Store) -> None:
    with pytest.raises(StoreError, match="no question 77"):
        drop_questions(store, [1, 77], "x")
    drop_questions(store, [1], "x")
    with pytest.raises(StoreError, match="no question 77"):
        put_back_questions(store, [1, 77])
    assert list(unusable_questions(store)) == [1]


def test_a_refusal_does_not_take_the_place_of_the_users_reason(store: Store) -> None:
    drop_questions(store, [1], "mine")
    with store.transaction():
        mark_refused(store, {1: "too long", 4: "too long"})
    assert unusable_questions(store) == {1: "dropped: mine", 4: "too long"}


def test_putting_back_names_only_those_that_were_out(store: Store) -> None:
    drop_questions(store, [1], "x")
    assert put_back_questions(store, [1, 4]) == [1]


def test_an_old_run_has_no_unusable_questions_and_keeps_rows(tmp_path: Path) -> None:
    store = open_store(finished_run(tmp_path))
    assert count_unusable(store) == 0
    tables = ("sample", "verdict", "pair", "evaluation", "round_question", "question")
    before = [store.value(f"SELECT count(*) FROM {table}") for table in tables]
    sampled = store.value("SELECT question FROM sample LIMIT 1")
    drop_questions(store, [sampled], "x")
    assert [store.value(f"SELECT count(*) FROM {table}") for table in tables] == before
    assert list(find_faults(store, lambda _: None)) == []
    assert drawn_by_open_round(store, [sampled]) is None
    store.close()
    change(tmp_path, "UPDATE round SET phase = 'judge' WHERE number = (SELECT max(number) FROM round)")
    store = open_store(tmp_path)
    last = store.value("SELECT max(number) FROM round")
    drawn = store.value("SELECT question FROM round_question WHERE round = ?", last)
    assert drawn_by_open_round(store, [drawn]) == (last, [drawn])
    store.close()
