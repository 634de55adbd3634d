"""`preference`: which of two candidates an output says is better, read from its verdict tag alone.

UnifiedReward-Think (arXiv 2505.03318) ends in `<answer>Image 1 is better</answer>` after a text that scores both
candidates. Only the content of the tag counts as verdict, and there must be exactly one tag.
"""

import math
import re
from collections.abc import Sequence

from judges.extraction import Found

OPEN, CLOSE = "<answer>", "</answer>"
VERDICT = re.compile(
    r"\s*(?:the\s+)?(?:(?:candidate|image|answer|response|video)\s*)?([12]|first|second)(?:\s+is\s+better)?\s*\.?\s*",
    re.IGNORECASE,
)
SUM = re.compile(
    r"^\W{0,4}(?:(?:candidate|image|answer|response|video)\s*)?([12])\s*[:.)]([^\n]*)"
    r"(?:=|\b(?:total|sum)\b\s*:?)\s*(\d{1,4}(?:\.\d+)?)",
    re.MULTILINE,
)
CLAUSE_END = re.compile(r"[,;+:]|\.(?!\d)")
OUT_OF_TEN = re.compile(r"(?:/|\s+out\s+of\s+)\s*10\b")
POINTS = re.compile(r"\D*?(\d{1,2}(?:\.\d+)?)")
MOST_POINTS = 10
WORDS = {"first": "1", "second": "2"}


def preference(answer: str, accepted: Sequence[str]) -> float:
    """1.0 if the verdict is the accepted one, else 0.0. Verdicts are "1" and "2"."""
    return float(answer in accepted)


def read_preference(text: str, *, needs_marker: bool) -> Found | None:
    """The verdict, "1" or "2": the content of the only answer tag; a direct answer may stand alone.

    None if there is no tag or more than one, if it is not closed, or if it names neither candidate or both.
    """
    lowered = text.lower()
    if OPEN not in lowered and CLOSE not in lowered:
        return None if needs_marker else _found(text, 0, len(text))
    if lowered.count(OPEN) != 1 or lowered.count(CLOSE) != 1 or len(lowered) != len(text):
        return None
    start, end = lowered.index(OPEN), lowered.index(CLOSE)
    if end < start:
        return None
    return _found(text, start + len(OPEN), end)


def read_sums(text: str) -> dict[str, float]:
    """The sum of scores of each candidate ("1", "2") that has one.

    A line that begins with a candidate ends in its sum; the last such line counts.
    """
    return {candidate: total for candidate, _, total in _scored_lines(text)}


def flag_sums(text: str, verdict: str | None) -> tuple[str, ...]:
    """Flags of the scores: `sums_contradict`, `sums_equal`, `sums_wrong`.

    None if there is no verdict, or a candidate has no sum.
    """
    sums = read_sums(text)
    if verdict is None or len(sums) < 2:
        return ()
    flags = []
    if sums["1"] == sums["2"]:
        flags.append("sums_equal")
    elif verdict != ("1" if sums["1"] > sums["2"] else "2"):
        flags.append("sums_contradict")
    if any(_does_not_add_up(said, total) for _, said, total in _scored_lines(text)):
        flags.append("sums_wrong")
    return tuple(flags)


def _scored_lines(text: str) -> list[tuple[str, str, float]]:
    """(candidate, what is said of it, sum) of each line that has a sum."""
    return [(candidate, said, float(total)) for candidate, said, total in SUM.findall(text.lower())]


def _does_not_add_up(said: str, total: float) -> bool:
    """Whether the points of a candidate's line can be read, and their sum is another one.

    They can if each clause with a number has one number alone, of at most 10, and ends in it. A line with any other
    number ("names 2 dogs") is not judged.
    """
    clauses = CLAUSE_END.split(OUT_OF_TEN.sub("", said.replace("*", "")))
    read = [POINTS.fullmatch(each.strip()) for each in clauses if re.search(r"\d", each)]
    points = [float(match[1]) for match in read if match is not None]
    if len(points) < len(read) or len(points) < 2 or max(points) > MOST_POINTS:
        return False
    return not math.isclose(sum(points), total)


def check_preference(answers: Sequence[str]) -> None:
    """Raises ValueError unless the accepted answer is one of the two verdicts."""
    if len(answers) != 1 or answers[0] not in ("1", "2"):
        raise ValueError('accepts "1" or "2", the candidate that is better')


def _found(text: str, start: int, end: int) -> Found | None:
    match = VERDICT.fullmatch(text[start:end])
    if match is None:
        return None
    named = match[1].lower()
    return Found(start, end, WORDS.get(named, named))
