"""Text for the terminal and the pages: durations, memory, and letters without stacked marks."""

import unicodedata
from collections.abc import Mapping

MAX_MARKS = 4
"""Most combining marks after one letter; more of them would overlap the lines above."""


def format_duration(seconds: float) -> str:
    """Seconds in a readable form: "48 s", "12m05s", "3h20m", "2d04h"."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    if whole < 86400:
        return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
    return f"{whole // 86400}d{whole % 86400 // 3600:02d}h"


def format_memory(memory: Mapping[str, Mapping[str, int | None]]) -> str:
    """Each planned phase's peak beside its plan, in GiB: "update 1.92 (planned 2.05)"."""
    shown = []
    for phase, figures in memory.items():
        for place, name in (("host", ""), ("card", " on the card")):
            peak, planned = figures[f"peak_{place}"], figures[f"planned_{place}"]
            if peak is not None and planned is not None:
                shown.append(f"{phase}{name} {peak / 2**30:.2f} (planned {planned / 2**30:.2f})")
    return ", ".join(shown)


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
