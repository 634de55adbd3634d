"""Parts of a question from the columns of a row."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loop.config.row_filter import parse_filter
from loop.errors import InputError
from loop.questions.columns import ColumnRules, Parts, require_columns

TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20).filter(
    lambda t: t.strip() != ""
)


def parts(columns: dict[str, Any], row: dict[str, Any], after: str | None = None, **names: list[str]) -> Parts:
    return ColumnRules(columns, after, names).parts(row, "set, row 3")


@given(TEXT, TEXT, st.lists(TEXT, min_size=1, max_size=26))
def test_a_template_is_filled_once_whatever_the_values_spell(question: str, hint: str, options: list[str]) -> None:
    row = {"question": question, "hint": hint, "options": options, "answer": "{hint}"}
    columns = {"question": ["Context: {hint}", "{question}", "{options}"], "answer": "answer"}
    found = parts(columns, row)
    lettered = [f"{'ABCDEFGHIJKLMNOPQRSTUVWXYZ'[n]}. {option.strip()}" for n, option in enumerate(options)]
    assert found.text == "\n".join([f"Context: {hint.strip()}", question.strip(), *lettered])
    assert found.answers == ["{hint}"]


def test_a_line_whose_columns_are_empty_is_left_out() -> None:
    columns = {"question": ["Context: {hint} ({more})", "Look.", "{question}"], "answer": "answer"}
    row = {"question": "q", "answer": "a"}
    assert parts(columns, {**row, "hint": "", "more": None}).text == "Look.\nq"
    assert parts(columns, {**row, "hint": "h", "more": None}).text == "Context: h ()\nLook.\nq"


def test_nested_fields_and_column_names_with_points_are_found() -> None:
    assert parts({"question": "qa.q", "answer": "qa.a"}, {"qa": {"q": "x", "a": 3}}).answers == ["3"]
    assert parts({"question": "qa.q", "answer": "qa.a"}, {"qa.q": "x", "qa.a": 3}).text == "x"


@given(st.lists(TEXT, min_size=2, max_size=6), st.data())
def test_the_number_of_a_choice_becomes_its_letter(choices: list[str], data: st.DataObject) -> None:
    number = data.draw(st.integers(0, len(choices) - 1))
    columns = {"question": "q", "choices": "choices", "answer_index": "n"}
    for written in (number, float(number), str(number)):
        row = {"q": "q", "choices": choices, "n": written}
        assert parts(columns, row).answers == ["ABCDEF"[number]]
    for wrong in (len(choices), -2, "two", True):
        with pytest.raises(InputError, match=r"row 3, column 'n': .* is no number of its"):
            parts(columns, {"q": "q", "choices": choices, "n": wrong})
    for missing in (None, -1):
        with pytest.raises(InputError, match=r"column 'n': has no answer"):
            parts(columns, {"q": "q", "choices": choices, "n": missing})


def test_choices_stand_in_one_column_or_in_several() -> None:
    columns = {"question": "q", "answer": "a", "choices": ["{A}", "{B}", "{C}"]}
    assert parts(columns, {"q": "q", "a": "B", "A": "x", "B": "y", "C": None}).choices == ["x", "y"]
    with pytest.raises(InputError, match="choices must be a list of texts, not a text"):
        parts({**columns, "choices": "A"}, {"q": "q", "a": "B", "A": "x"})


def test_an_answer_stands_after_a_text_or_in_the_last_box() -> None:
    columns = {"question": "q", "answer": "a"}
    assert parts(columns, {"q": "q", "a": "so 2+2\n#### 1,234"}, "####").answers == ["1,234"]
    boxed = {"q": "q", "a": r"first \boxed{1}, then \boxed{\frac{1}{2}}."}
    assert parts(columns, boxed, r"\boxed").answers == [r"\frac{1}{2}"]
    for after in ("####", r"\boxed"):
        with pytest.raises(InputError, match=r"row 3, column 'a': nothing stands after"):
            parts(columns, {"q": "q", "a": "no mark"}, after)


def test_numbers_are_written_as_people_write_them() -> None:
    columns = {"question": "q", "answer": "a"}
    for value, written in ((5, "5"), (5.0, "5"), (2.5, "2.5"), ("05", "05")):
        assert parts(columns, {"q": "q", "a": value}).answers == [written]
    assert parts(columns, {"q": "q", "a": ["x", 2]}).answers == ["x", "2"]
    with pytest.raises(InputError, match="has no answer"):
        parts(columns, {"q": "q", "a": float("nan")})
    with pytest.raises(InputError, match="one of its 2 answers is empty"):
        parts(columns, {"q": "q", "a": ["x", ""]})


def test_classes_have_their_names_in_answers_and_filters() -> None:
    rules = ColumnRules({"question": "q", "answer": "label"}, None, {"label": ["cat", "dog"]})
    assert rules.parts({"q": "q", "label": 1}, "here").answers == ["dog"]
    assert rules.holds({"q": "q", "label": 1}, parse_filter('label == "dog"'))


def test_a_column_within_a_template_is_looked_for_too() -> None:
    columns: dict[str, Any] = {"question": ["Fixed.", "{qustion}"], "answer": "answer"}
    with pytest.raises(InputError, match=r"columns.question: set has no column 'qustion'; did you mean 'question'\?"):
        require_columns(columns, [], ["question", "answer"], "set")
    require_columns({**columns, "question": "question"}, [], ["question", "answer"], "set")
