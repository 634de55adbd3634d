"""`python`: a function of yours, named by import path."""

import importlib
from collections.abc import Callable, Sequence
from functools import lru_cache

from judges.errors import JudgeError


def python(answer: str, accepted: Sequence[str], *, function: str = "") -> float:
    """The result of `function` ("package.module:name") for (answer, accepted): a score in [0, 1] or a bool.

    Raises JudgeError("python_error") if the function raises, and JudgeError("python_score") if it returns
    anything else. It runs in this process with all rights: name only functions you trust. A row of a
    question file cannot name one.
    """
    try:
        score = load_function(function)(answer, list(accepted))
    except Exception as error:
        raise JudgeError("python_error") from error
    if not isinstance(score, int | float) or not 0.0 <= score <= 1.0:
        raise JudgeError("python_score")
    return float(score)


@lru_cache(maxsize=64)
def load_function(path: str) -> Callable[[str, list[str]], object]:
    """The function at an import path; raises ValueError saying what is missing."""
    module_name, _, name = path.partition(":")
    if not module_name or not name:
        raise ValueError(f"function {path!r} must be written as package.module:name")
    try:
        found = getattr(importlib.import_module(module_name), name)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"function {path!r} cannot be imported: {error}") from error
    if not callable(found):
        raise ValueError(f"function {path!r} cannot be called")
    checked: Callable[[str, list[str]], object] = found
    return checked
