r"""The value of plain arithmetic in LaTeX, rounded to two places: numbers, + - * / ^, \cdot, \times, \div, \frac, ().

Nothing is evaluated as code. Roots, symbols and functions have no value, since lmms-eval's `eval` of latex2sympy2's
result cannot evaluate them. As in lmms-eval, a quotient and a decimal fraction are floats, and other numbers integers.
"""

import re

TOKEN = re.compile(r"\s*(\d{1,3}(?:,\d{3})+(?:\.\d*)?|\d+\.?\d*|\.\d+|\\(?:frac|cdot|times|div)|\S)", re.ASCII)
TIMES, DIVIDED = ("*", r"\cdot", r"\times"), ("/", r"\div")
MAX_CHARACTERS, MAX_EXPONENT = 200, 64
"""What is larger is no answer, and would take long."""

Value = int | float


class _NoValueError(Exception):
    """The text is no plain arithmetic."""


def latex_value(text: str) -> Value | None:
    """The value rounded to two places, None for what is no plain arithmetic."""
    if len(text) > MAX_CHARACTERS:
        return None
    try:
        reader = _Reader(TOKEN.findall(text))
        value = reader.sum()
        reader.end()
        return round(value, 2)
    except (_NoValueError, ZeroDivisionError, OverflowError, RecursionError):
        return None


class _Reader:
    """Recursive descent: a sum of products of signed powers."""

    def __init__(self, tokens: list[str]) -> None:
        self._tokens, self._place = tokens, 0

    def end(self) -> None:
        """Raise unless the text ends after the value; a closing bracket that was never opened also ends it."""
        if self._peek() not in ("", ")", "}", "]"):
            raise _NoValueError

    def sum(self) -> Value:
        value = self._product()
        while (sign := self._peek()) in ("+", "-"):
            self._take()
            other = self._product()
            value = value + other if sign == "+" else value - other
        return value

    def _product(self) -> Value:
        value = self._signed()
        while True:
            sign = self._peek()
            if sign in TIMES or sign in DIVIDED:
                self._take()
                other = self._signed()
                value = value / other if sign in DIVIDED else value * other
            elif sign in ("(", "{", r"\frac") or _is_number(sign):
                value = value * self._power()  # 2(3), 3\frac{1}{2}: a product
            else:
                return value

    def _signed(self) -> Value:
        if self._peek() in ("-", "+"):
            sign = self._take()
            value = self._signed()
            return -value if sign == "-" else value
        return self._power()

    def _power(self) -> Value:
        value = self._atom()
        while self._peek() == "^":
            self._take()
            exponent = self._group() if self._peek() == "{" else self._signed()
            if abs(exponent) > MAX_EXPONENT:
                raise _NoValueError
            raised = value**exponent
            if isinstance(raised, complex):
                raise _NoValueError
            value = raised
        return value

    def _atom(self) -> Value:
        part = self._take()
        if part in ("(", "{"):
            value = self.sum()
            self._expect(")" if part == "(" else "}")
            return value
        if part == r"\frac":
            above, below = self._group(), self._group()
            return above / below
        if _is_number(part):
            number = float(part.replace(",", ""))
            return int(part.replace(",", "").split(".")[0] or 0) if number.is_integer() else number
        raise _NoValueError

    def _group(self) -> Value:
        self._expect("{")
        value = self.sum()
        self._expect("}")
        return value

    def _peek(self) -> str:
        return self._tokens[self._place] if self._place < len(self._tokens) else ""

    def _take(self) -> str:
        part = self._peek()
        self._place += 1
        return part

    def _expect(self, part: str) -> None:
        if self._take() != part:
            raise _NoValueError


def _is_number(part: str) -> bool:
    return part[:1].isdecimal() or part[1:2].isdecimal()
