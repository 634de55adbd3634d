"""`questions.filter`: which rows of a set are taken, by comparisons of a column with a value. Nothing is evaluated.

`COLUMN OP VALUE`, where OP is one of == != <= >= < > in, and VALUE is written as in TOML: `level >= 3`,
`type == "human"`, `subject in ["algebra", "geometry"]`.
"""

import operator
import re
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ratchet_error import RatchetError

COMPARISON = re.compile(r"\s*(?P<column>.+?)\s*(?P<sign>==|!=|<=|>=|<|>|\sin(?=[\s\[]))\s*(?P<value>.+)", re.DOTALL)
ORDERED: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


class FilterError(RatchetError, ValueError):
    """A line that is no comparison, or one that a row's value cannot be put to."""


@dataclass(frozen=True)
class Comparison:
    """One comparison of a column with a value."""

    column: str
    sign: str
    value: Any

    def holds(self, value: Any) -> bool:
        """Whether a row's value meets it; no value counts as the text "". Raises FilterError where kinds differ."""
        value = "" if value is None else value
        if self.sign == "in":
            return value in self.value
        if self.sign in ("==", "!="):
            return bool(value == self.value) == (self.sign == "==")
        numbers = _is_number(value) and _is_number(self.value)
        if not numbers and not (isinstance(value, str) and isinstance(self.value, str)):
            raise FilterError(f"{value!r} {self.sign} {self.value!r} compares values of different kinds")
        return ORDERED[self.sign](value, self.value)


def parse_filter(line: str) -> Comparison:
    """The comparison that a line states; raises FilterError saying how it is written."""
    found = COMPARISON.fullmatch(line)
    try:
        value = tomllib.loads(f"value = {found['value']}")["value"] if found else None
    except tomllib.TOMLDecodeError:
        value = None
    sign = found["sign"].strip() if found else ""
    scalars = value if sign == "in" and isinstance(value, list) else [value]
    if (sign == "in") != isinstance(value, list) or not all(isinstance(each, str | int | float) for each in scalars):
        raise FilterError(
            f"{line!r} is no comparison; write COLUMN == VALUE (or != < <= > >=), texts in quotes, or"
            ' COLUMN in ["a", "b"]'
        )
    assert found is not None
    return Comparison(found["column"], sign, value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
