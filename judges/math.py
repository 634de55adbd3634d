"""`math`: mathematical equality by math-verify (Kydlíček et al. 2025), in processes that can be killed.

math-verify hangs on some inputs, uses signals (so it works in the main thread only), and calls unreadable answers
wrong. So the comparison runs in the worker processes of `judges.workers`, and time-outs and failures are
distinguished from wrong answers.
"""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from judges.errors import JudgeError

if TYPE_CHECKING:
    from judges.workers import Reply

TIME_OUT_S = 5.0
MAX_LENGTH = 2000
DELIMITED = re.compile(r"\$|\\\(|\\\[|\\boxed")
NUMBER = re.compile(r"[-+\d.,/%\s]+")
PROSE = re.compile(r"[A-Za-z]{2,}\s+[A-Za-z]{2,}")


def math(answer: str, accepted: Sequence[str], *, timeout: float = TIME_OUT_S) -> float:
    """1.0 if math-verify calls the answer equal to an accepted one, else 0.0.

    The accepted answer as it stands; LaTeX between dollars or in a box, fractions, percentages, units,
    intervals, sets, equations, matrices. Text without delimiters is read as LaTeX first, unless it is
    a number or prose. Raises JudgeError: `math_timeout` after `timeout` seconds of processor time,
    `math_unparsed` for an answer and `math_key_unparsed` for an accepted answer that math-verify
    cannot read, `math_failed` where the comparison itself broke, `math_too_long` above 2,000 characters.
    """
    (score,) = math_many([(answer, accepted)], timeout=timeout)
    if isinstance(score, JudgeError):
        raise score
    return score


def math_many(items: Sequence[tuple[str, Sequence[str]]], *, timeout: float = TIME_OUT_S) -> list[float | JudgeError]:
    """`math` for many (answer, accepted) at once, in parallel; an error stands in its score's place.

    Only undecided comparisons go to the workers, and equal ones only once.
    """
    from judges.workers import shared_pool

    keys = [(answer.strip(), tuple(each.strip() for each in accepted)) for answer, accepted in items]
    scores: dict[tuple[str, tuple[str, ...]], float | JudgeError] = {}
    for answer, accepted in keys:
        if answer in accepted:
            scores[answer, accepted] = 1.0
        elif len(answer) > MAX_LENGTH:
            scores[answer, accepted] = JudgeError("math_too_long")
    open_ = [key for key in dict.fromkeys(keys) if key not in scores]
    scores.update(zip(open_, map(_score, shared_pool().ask(open_, timeout)), strict=True))
    return [scores[key] for key in keys]


def _score(reply: "Reply") -> float | JudgeError:
    if reply == "equal":
        return 1.0
    return 0.0 if reply == "different" else JudgeError(f"math_{reply}")


def readings(text: str) -> list[str]:
    """The forms in which a text is given to math-verify; the first that gives an expression is used."""
    if DELIMITED.search(text) or PROSE.search(text):
        return [text]
    latex = f"${text}$"
    return [text, latex] if NUMBER.fullmatch(text) else [latex, text]
