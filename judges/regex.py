"""`regex`: the answer matches a pattern of yours."""

from collections.abc import Sequence
from functools import lru_cache

import regex as engine

from judges.errors import JudgeError
from judges.memo import remember_short

TIME_OUT_S = 0.5


def regex(answer: str, accepted: Sequence[str], *, pattern: str = "", ignore_case: bool = True) -> float:
    """1.0 if the whole answer matches `pattern`, or, if that is empty, one of the accepted patterns.

    The engine is the `regex` package's: it has a time-out, so a pattern that backtracks without end
    raises JudgeError("regex_timeout") instead.
    """
    patterns = [pattern] if pattern else accepted
    try:
        return float(any(_matches(answer, each, ignore_case) for each in patterns))
    except TimeoutError as error:
        raise JudgeError("regex_timeout") from error


@remember_short
def _matches(answer: str, pattern: str, ignore_case: bool) -> bool:
    return _compiled(pattern, ignore_case).fullmatch(answer, timeout=TIME_OUT_S) is not None


def check_pattern(pattern: str) -> None:
    """Raises ValueError for a pattern that does not compile."""
    try:
        _compiled(pattern, True)
    except RecursionError as error:
        raise ValueError(f"pattern {pattern[:40]!r}... is nested too deeply") from error
    except engine.error as error:
        raise ValueError(f"pattern {pattern!r} is not a regular expression: {error}") from error


@lru_cache(maxsize=512)
def _compiled(pattern: str, ignore_case: bool) -> "engine.Pattern[str]":
    return engine.compile(pattern, engine.IGNORECASE if ignore_case else 0)
