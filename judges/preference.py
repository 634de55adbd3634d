"""`preference`: which of two candidates an output says is better, read from its verdict tag alone.

UnifiedReward-Think (arXiv 2505.03318) ends in `<answer>Image 1 is better</answer>` after a text that scores both
candidates. Only the content of the tag counts as verdict, and there must be exactly one tag.
"""

import re
from collections.abc import Sequence

from judges.extraction import Found

OPEN, CLOSE = "<answer>", "</answer>"
VERDICT = re.compile(
    r"\s*(?:the\s+)?(?:(?:candidate|image|answer|response|video)\s*)?([12]|first|second)(?:\s+is\s+better)?\s*\.?\s*",
    re.IGNORECASE,
)
SUM = re.compile(
    r"^\W{0,4}(?:(?:candidate|image|answer|response|video)\s*)?([12])\s*[:.)][^\n]*"
    r"(?:=|\b(?:total|sum)\b\s*:?)\s*(\d{1,4})",
    re.MULTILINE,
)
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


def read_sums(text: str) -> dict[str, int]:
    """The sum of scores of each candidate ("1", "2") that has one.

    A line that begins with a candidate ends in its sum; the last such line counts.
    """
    return {candidate: int(total) for candidate, total in SUM.findall(text.lower())}


def contradicts_sums(text: str, verdict: str | None) -> bool:
    """Whether the text gives one candidate the higher sum of scores and its verdict to the other.

    False if a candidate has no sum, or both sums are equal.
    """
    sums = read_sums(text)
    if verdict is None or len(sums) < 2 or sums["1"] == sums["2"]:
        return False
    return verdict != ("1" if sums["1"] > sums["2"] else "2")


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
