"""`questions.filter`: comparisons are parsed, never evaluated."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loop.config.row_filter import ORDERED, FilterError, parse_filter

COLUMN = st.from_regex(r"[a-z][a-z_. ]{0,8}[a-z]", fullmatch=True).filter(lambda name: " in" not in name)
VALUE: st.SearchStrategy[Any] = st.one_of(
    st.integers(-(2**62), 2**62),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(min_codepoint=32, max_codepoint=0x2FF, exclude_characters="\x7f"), max_size=12),
)


@given(COLUMN, st.sampled_from(["==", "!=", "<", "<=", ">", ">="]), VALUE, VALUE)
def test_a_comparison_means_what_python_means(column: str, sign: str, wanted: Any, value: Any) -> None:
    parsed = parse_filter(f"{column} {sign} {json.dumps(wanted, ensure_ascii=False)}")
    assert (parsed.column, parsed.sign, parsed.value) == (column, sign, wanted)
    if sign in ("==", "!="):
        assert parsed.holds(value) == ((value == wanted) == (sign == "=="))
    elif isinstance(value, str) == isinstance(wanted, str):
        assert parsed.holds(value) == ORDERED[sign](value, wanted)
    else:
        with pytest.raises(FilterError, match="different kinds"):
            parsed.holds(value)


@given(COLUMN, st.lists(VALUE, max_size=4), VALUE)
def test_in_looks_a_value_up_in_a_list(column: str, wanted: list[Any], value: Any) -> None:
    assert parse_filter(f"{column} in {json.dumps(wanted, ensure_ascii=False)}").holds(value) == (value in wanted)


def test_a_row_without_a_value_has_the_empty_text() -> None:
    assert parse_filter('answer != ""').holds("x")
    assert not parse_filter('answer != ""').holds(None)
    assert parse_filter('answer == ""').holds(None)


@pytest.mark.parametrize(
    "line",
    [
        "",
        "level",
        "level = 3",
        "level == three",
        "level in 3",
        "level == [3]",
        '== "x"',
        '__import__("os").system("true")',
        'a == __import__("os")',
        "a == 1979-05-27",
        "a == { b = 1 }",
    ],
)
def test_what_is_no_comparison_is_refused_with_how_to_write_one(line: str) -> None:
    with pytest.raises(FilterError, match="write COLUMN == VALUE"):
        parse_filter(line)
