"""Remembering what short texts become: the same answers come again and again."""

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import TypeVar

T = TypeVar("T")
ENTRIES = 8192
LONGEST = 200


def remember_short(function: Callable[[str], T]) -> Callable[[str], T]:
    """`function` of a text, remembered for texts up to 200 characters, so that the memory stays small."""
    remembered = lru_cache(maxsize=ENTRIES)(function)

    @wraps(function)
    def call(text: str) -> T:
        return remembered(text) if len(text) <= LONGEST else function(text)

    return call
