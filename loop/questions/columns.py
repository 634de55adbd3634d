"""Roles of a data set's columns: question, answers, choices, images and the rest, by name or by template.

A text without braces is a column's name, one with braces a template: `"Is {thing} there?"`. In a list of lines
each line is a template or a fixed text; a line whose columns are all empty in a row is left out. A column that holds a
list is written as options, one per line ("A. first"). `{question:capitalize}` makes the first letter a capital and the
others small, as Python's `str.capitalize`.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from string import ascii_uppercase
from typing import Any

from judges.extraction import extract_answer
from loop.config.dataset_keys import Columns
from loop.config.row_filter import Comparison
from loop.errors import InputError

PLACE = re.compile(r"\{([^{}]+?)(:capitalize)?\}")
BOXED = "\\boxed"

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Parts:
    """The parts of one question from its row; `images` are (column, value) pairs that are not read yet."""

    text: str
    answers: list[str]
    choices: list[str]
    images: list[tuple[str, Any]]
    external_id: str | None
    kind: str | None
    group: str | None


class ColumnRules:
    """Makes the parts of a question from a row.

    `names` has the names of the classes of a column that holds their numbers, as `datasets.ClassLabel` does.
    """

    def __init__(self, columns: Columns, answer_after: str | None, names: Mapping[str, Sequence[str]]) -> None:
        self._columns, self._answer_after, self._names = columns, answer_after, names

    def ties_rows(self, row: Row) -> bool:
        """Whether rows like this one may be joined to others by more than one image, or by a group."""
        images = self._image_columns()
        lists = (isinstance(self._value(row, column), list | tuple) for column in images)
        return "group" in self._columns or len(images) > 1 or any(lists)

    def parts(self, row: Row, where: str) -> Parts:
        """Raises InputError naming row and column for what is empty or of a wrong kind."""
        text = self._lines("question", row, where)
        if not text:
            raise InputError(f"{where}, column {self._name('question')}: the question is empty")
        choices = self._choices(row, where)
        return Parts(
            text="\n".join(text),
            answers=self._index(row, choices, where) if "answer_index" in self._columns else self._answers(row, where),
            choices=choices,
            images=[(column, value) for column in self._image_columns() for value in self._images(row, column, where)],
            external_id=self._optional("id", row, where),
            kind=self._optional("kind", row, where),
            group=self._optional("group", row, where),
        )

    def holds(self, row: Row, comparison: Comparison) -> bool:
        """Whether a row meets a comparison; names of classes take the place of their numbers."""
        return comparison.holds(self._value(row, comparison.column))

    def _name(self, part: str) -> str:
        value = self._columns[part]
        return repr(value if isinstance(value, str) else value[0])

    def _value(self, row: Row, column: str) -> Any:
        value = column_value(row, column)
        names = self._names.get(column)
        if names is not None and isinstance(value, int) and not isinstance(value, bool):
            return names[value] if 0 <= value < len(names) else None
        return value

    def _lines(self, part: str, row: Row, where: str) -> list[str]:
        """The lines of a part that are not empty in this row."""
        value = self._columns[part]
        if isinstance(value, str):
            lines = [self._line(value, row, where) if "{" in value else self._text(row, value, where)]
        else:
            lines = [self._line(line, row, where) for line in value]
        return [line for line in lines if line]

    def _line(self, line: str, row: Row, where: str) -> str:
        filled = [self._text(row, place[1], where) for place in PLACE.finditer(line)]
        if filled and not any(filled):
            return ""
        texts = iter(filled)

        def fill(place: re.Match[str]) -> str:
            text = next(texts)
            return text.capitalize() if place[2] else text

        return PLACE.sub(fill, line).strip()

    def _text(self, row: Row, column: str, where: str) -> str:
        value = self._value(row, column)
        if isinstance(value, list | tuple):
            if len(value) > len(ascii_uppercase):
                raise InputError(
                    f"{where}, column {column!r}: has {len(value)} options; {len(ascii_uppercase)} at most"
                )
            texts = (_as_text(each, f"{where}, column {column!r}") for each in value)
            return "\n".join(f"{letter}. {text}" for letter, text in zip(ascii_uppercase, texts, strict=False))
        return _as_text(value, f"{where}, column {column!r}")

    def _optional(self, part: str, row: Row, where: str) -> str | None:
        return "\n".join(self._lines(part, row, where)) or None if part in self._columns else None

    def _choices(self, row: Row, where: str) -> list[str]:
        rule = self._columns.get("choices")
        if rule is None:
            return []
        if isinstance(rule, list):
            return self._lines("choices", row, where)
        value = self._value(row, rule)
        if value is None:
            return []
        if not isinstance(value, list | tuple):
            raise InputError(f"{where}, column {rule!r}: choices must be a list of texts, not {_kind(value)}")
        texts = [_as_text(each, f"{where}, column {rule!r}") for each in value]
        if not all(texts):
            raise InputError(f"{where}, column {rule!r}: a choice is empty")
        return texts

    def _index(self, row: Row, choices: Sequence[str], where: str) -> list[str]:
        """The letter of the choice that is right."""
        column = self._columns["answer_index"]
        assert isinstance(column, str)
        value = self._value(row, column)
        number = int(value) if isinstance(value, str) and value.strip().isdecimal() else value
        if isinstance(number, float) and number.is_integer():
            number = int(number)
        if number is None or number == -1:
            raise InputError(_no_answer(where, column))
        if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number < len(choices):
            raise InputError(
                f"{where}, column {column!r}: {value!r} is no number of its {len(choices)} choices, counted from 0"
            )
        return [ascii_uppercase[number]]

    def _answers(self, row: Row, where: str) -> list[str]:
        rule = self._columns["answer"]
        assert isinstance(rule, str)
        named = f"{where}, column {rule!r}"
        value = self._value(row, rule) if "{" not in rule else self._line(rule, row, where)
        if isinstance(value, bool):
            raise InputError(f"{named}: is a truth value; give the answers as texts, such as yes and no")
        values = list(value) if isinstance(value, list | tuple) else [value]
        texts = [_as_text(each, named) for each in values]
        if not any(texts):
            raise InputError(_no_answer(where, rule))
        if not all(texts):
            raise InputError(f"{named}: one of its {len(texts)} answers is empty")
        return [self._after(text, named) for text in texts] if self._answer_after else texts

    def _after(self, text: str, named: str) -> str:
        """The text after the last `answer_after`; of a box its content."""
        assert self._answer_after is not None
        if self._answer_after == BOXED:
            found = extract_answer(text, needs_marker=True, markers=("boxed",), as_written=True)
        else:
            _, _, found = text.rpartition(self._answer_after) if self._answer_after in text else ("", "", "")
        if not found or not found.strip():
            raise InputError(f"{named}: nothing stands after {self._answer_after!r} (questions.answer_after)")
        return found.strip()

    def _image_columns(self) -> list[str]:
        rule = self._columns.get("images", [])
        return [rule] if isinstance(rule, str) else rule

    def _images(self, row: Row, column: str, where: str) -> list[Any]:
        value = self._value(row, column)
        values = list(value) if isinstance(value, list | tuple) else [value]
        return [each for each in values if each is not None and each != ""]


def column_value(row: Row, column: str) -> Any:
    """A row's value of a column or of a field within one (`qa.question`); None if the row lacks it."""
    if column in row:
        return row[column]
    value: Any = row
    for part in column.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def require_columns(columns: Columns, comparisons: Sequence[Comparison], there: Sequence[str], path: str) -> None:
    """Raise InputError, proposing near names, for a column that the set does not have."""
    wanted = [(f"columns.{part}", name) for part, rule in columns.items() for name in _columns_named(part, rule)]
    for key, name in [*wanted, *(("filter", comparison.column) for comparison in comparisons)]:
        if name in there or name.split(".")[0] in there:
            continue
        near = get_close_matches(name, there, 3, 0.5)
        meant = f"did you mean {' or '.join(map(repr, near))}?" if near else f"it has {', '.join(map(repr, there))}"
        raise InputError(f"questions.{key}: {path} has no column {name!r}; {meant}")


def _columns_named(part: str, rule: str | list[str]) -> list[str]:
    if part == "images" or (isinstance(rule, str) and "{" not in rule):
        return [rule] if isinstance(rule, str) else rule
    return [place[1] for line in ([rule] if isinstance(rule, str) else rule) for place in PLACE.finditer(line)]


def _no_answer(where: str, column: str) -> str:
    return (
        f"{where}, column {column!r}: has no answer. Many sets keep the answers of their test split back: name another"
        " split in questions.splits, or leave such rows out with questions.filter"
    )


def _as_text(value: Any, named: str) -> str:
    """A text, or a number as it is written; whole numbers without a point, as tables with gaps make floats of them."""
    if value is None:
        return ""
    if isinstance(value, float):
        if value != value:  # a gap of a table
            return ""
        value = int(value) if value.is_integer() else value
    if isinstance(value, str | int | float):
        return str(value).strip()
    raise InputError(f"{named}: must hold a text or a number, not {_kind(value)}")


def _kind(value: Any) -> str:
    kinds = {bytes: "bytes", dict: "a table", list: "a list", bool: "a truth value", float: "a number", int: "a number"}
    return kinds.get(type(value), "a text" if isinstance(value, str) else f"a {type(value).__name__}")
