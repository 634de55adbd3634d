"""Text as the terminal and the pages both show it: durations, and letters without piled-up marks."""

import unicodedata

MAX_MARKS = 4
"""Combining marks after one letter; more of them climb into the lines above."""


def format_duration(seconds: float) -> str:
    """So many seconds as people write them: "48 s", "12m05s", "3h20m", "2d04h"."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    if whole < 86400:
        return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
    return f"{whole // 86400}d{whole % 86400 // 3600:02d}h"


def limit_marks(text: str) -> str:
    """The text with at most MAX_MARKS combining marks on one letter."""
    if text.isascii():
        return text
    kept, marks = [], 0
    for character in text:
        marks = marks + 1 if unicodedata.category(character) in ("Mn", "Me") else 0
        if marks <= MAX_MARKS:
            kept.append(character)
    return "".join(kept)
