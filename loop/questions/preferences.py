"""Preference questions: which of two candidates is better, asked in both orders.

A row `{"question", "candidates": [A, B], "better": 1 | 2, "images"?, "candidate_images"?, "task"?}` becomes two
questions that make one unit: A before B, and B before A. A judge that always says "1" is right in one of them, and
in no unit.
The text is laid out by `questions.preference_layout`; how a verdict is asked for is the prompt's (`prompts.cot`).
"""

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from loop.config.prompt_styles import PREFERENCE_PLACES
from loop.errors import InputError

KEYS = {"candidates", "better", "candidate_images", "task"}
JUDGE = "preference"
ORDERS = ((0, 1), (1, 0))

ReadImage = Callable[[str], bytes]


@dataclass(frozen=True)
class PreferenceQuestion:
    """One order of a unit: the text with both candidates in it, the verdict that is right, and all images in order."""

    text: str
    answer: str
    images: list[bytes]


@dataclass(frozen=True)
class Preference:
    """A row: two candidates, each a text, images, or both, and which is better (0 or 1). Images are bytes."""

    question: str
    candidates: tuple[str, str]
    better: int
    images: list[bytes]
    candidate_images: tuple[list[bytes], list[bytes]]

    @property
    def unit(self) -> str:
        """The name of its unit: equal for the same row, whichever of the candidates comes first."""
        sides = [
            [text, *(hashlib.sha256(image).hexdigest() for image in images)]
            for text, images in zip(self.candidates, self.candidate_images, strict=True)
        ]
        own = [hashlib.sha256(image).hexdigest() for image in self.images]
        return hashlib.sha256(json.dumps([self.question, own, sorted(sides)]).encode()).hexdigest()[:16]

    def in_both_orders(self, layout: str) -> tuple[PreferenceQuestion, PreferenceQuestion]:
        """The two questions; the layout's places are filled once, whatever the texts themselves contain."""
        first, second = (self._in_order(layout, order) for order in ORDERS)
        return first, second

    def _in_order(self, layout: str, order: tuple[int, int]) -> PreferenceQuestion:
        texts = dict(zip(PREFERENCE_PLACES, (self.question, *(self.candidates[place] for place in order)), strict=True))
        images = [*self.images, *(image for place in order for image in self.candidate_images[place])]
        return PreferenceQuestion(fill(layout, texts), str(order.index(self.better) + 1), images)


def fill(layout: str, texts: dict[str, str]) -> str:
    """Each place of the layout replaced by its text; a text that spells a place is left as it is."""
    places = sorted((layout.index(place), place) for place in texts)
    filled, end = "", 0
    for start, place in places:
        filled += layout[end:start] + texts[place]
        end = start + len(place)
    return filled + layout[end:]


def read_layout(layout: str, text: str) -> dict[str, str] | None:
    """The text in each place of a layout; None if the text does not have that layout.

    A text that contains the words between two places may be cut there, so this is only for display.
    """
    parts = re.split(f"({'|'.join(map(re.escape, PREFERENCE_PLACES))})", layout)
    pattern = "".join(f"(?P<{part[1:-1]}>.*?)" if part in PREFERENCE_PLACES else re.escape(part) for part in parts)
    found = re.fullmatch(pattern, text, re.DOTALL)
    return None if found is None else found.groupdict()


def read_preference(row: dict[str, Any], where: str, read_image: ReadImage) -> Preference:
    """A row that has candidates. Raises InputError naming the row and what is wrong with it."""
    if "answer" in row or "answers" in row or "choices" in row:
        raise InputError(
            f"{where}: a row with 'candidates' has 'better' (1 or 2), and no 'answer', 'answers' or 'choices'"
        )
    candidates = row.get("candidates")
    images = row.get("candidate_images", [[], []])
    if not isinstance(candidates, list) or len(candidates) != 2 or not all(isinstance(c, str) for c in candidates):
        raise InputError(f"{where}: 'candidates' must be a list of two texts")
    if not _two_lists_of_paths(images):
        raise InputError(f"{where}: 'candidate_images' must be two lists of paths, one a candidate")
    for place, text in enumerate(candidates):
        if not text.strip() and not images[place]:
            raise InputError(f"{where}: candidate {place + 1} has neither a text nor an image")
    if candidates[0].strip() == candidates[1].strip() and images[0] == images[1]:
        raise InputError(f"{where}: both candidates are the same; neither can be better")
    better = row.get("better")
    if isinstance(better, bool) or better not in (1, 2):
        raise InputError(f"{where}: 'better' must be 1 or 2, not {better!r}")
    read = tuple([read_image(name) for name in names] for names in images)
    return Preference(
        row["question"],
        (candidates[0], candidates[1]),
        int(better) - 1,
        [read_image(name) for name in row.get("images", [])],
        (read[0], read[1]),
    )


def _two_lists_of_paths(images: Any) -> bool:
    return (
        isinstance(images, list)
        and len(images) == 2
        and all(isinstance(names, list) and all(isinstance(name, str) for name in names) for names in images)
    )
