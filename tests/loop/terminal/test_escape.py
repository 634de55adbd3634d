"""Text of others cannot do anything to a terminal or a spreadsheet."""

import re
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loop.terminal.escape import JOINERS, LINE_LIMIT, block, one_line, spreadsheet_cell
from tests.support.command_line import run_command
from tests.support.stores import change, finished_run

ANY_TEXT = st.text(st.characters(), max_size=300) | st.text(
    "\x1b[]0;31m\x07\x9b\r\n\t\u202e\u2066\u200b\x00", max_size=60
)


def obeyed(text: str) -> list[str]:
    """The characters of a text that a terminal acts upon or that hide."""
    return [c for c in text if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp") and c not in JOINERS]


@given(ANY_TEXT)
def test_a_line_is_one_line_that_no_terminal_obeys(text: str) -> None:
    assert obeyed(one_line(text)) == []


@given(ANY_TEXT)
def test_a_block_keeps_its_line_breaks_and_nothing_else(text: str) -> None:
    assert set(obeyed(block(text))) <= {"\n"}
    assert block(text).count("\n") == text.count("\n")


@given(st.text(st.characters(categories=("L", "N", "P", "S", "Zs")), max_size=200))
def test_plain_text_is_shown_as_it_is(text: str) -> None:
    assert one_line(text) == block(text) == text


@given(st.text(st.characters(), min_size=1, max_size=50), st.integers(1, 20))
def test_what_is_cut_says_how_much_is_missing(text: str, limit: int) -> None:
    shown = one_line(text * 10, limit)
    missing = len(text * 10) - limit
    assert shown.endswith(f"… ({missing:,} characters more)") is (missing > 0)


def test_a_line_of_a_hundred_kilobytes_is_cut() -> None:
    assert len(one_line("x" * 100_000)) < LINE_LIMIT + 50
    assert len(one_line("\x1b" * 100_000)) < 4 * LINE_LIMIT + 50


def test_stacked_marks_are_thinned_and_accents_stay() -> None:
    assert one_line("a" + "\u0301" * 50) == "a" + "\u0301" * 4
    assert one_line("e\u0301te\u0301") == "e\u0301te\u0301"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred", "\\x1b[31mred"),
        ("\x9b2J", "\\x9b2J"),
        ("abc\u202edef", "abc\\u202edef"),
        ("nul\x00", "nul\\x00"),
        ("a\r\nb\tc", "a\\r\\nb\\tc"),
        ("tag\U000e0041", "tag\\U000e0041"),
        ("👩\u200d🚀", "👩\u200d🚀"),
    ],
)
def test_what_hides_is_spelled_out(text: str, shown: str) -> None:
    assert one_line(text) == shown


@given(ANY_TEXT | st.text("=+-@\t\r0123456789", max_size=8))
def test_no_text_of_a_spreadsheet_cell_is_a_formula(text: str) -> None:
    cell = spreadsheet_cell(text)
    assert isinstance(cell, str)
    assert not re.match(r"[=+\-@\t\r]", cell)
    assert obeyed(cell) == []


def test_an_error_that_quotes_others_is_harmless() -> None:
    done = run_command("status", "runs/\x1b[2Jnowhere", check=2)
    assert "\\x1b[2Jnowhere" in done.stderr
    assert "\x1b" not in done.stderr


def test_a_terminal_that_lacks_a_character_gets_its_number(tmp_path: Path) -> None:
    change(finished_run(tmp_path), "UPDATE question SET text = '日本 красный'")
    done = run_command("show", tmp_path, "question", 1, PYTHONIOENCODING="ascii")
    assert "\\u65e5" in done.stdout


@pytest.mark.parametrize("number", [-1.5, 0, 12, None, True])
def test_numbers_stay_numbers(number: object) -> None:
    assert spreadsheet_cell(number) is number
