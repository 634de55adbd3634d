"""Remembering what short texts become: the same answers come again and again."""

from collections.abc import Callable
from functools import lru_cache, update_wrapper
from typing import TypeVar, TypeVarTuple

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
ENTRIES = 8192
LONGEST = 200


def remember_short(function: Callable[[str, *Ts], T]) -> Callable[[str, *Ts], T]:
    """`function` of a text, remembered for texts up to 200 characters, so that the memory stays small.

    Further arguments must be hashable.
    """
    remembered = lru_cache(maxsize=ENTRIES)(function)

    def call(text: str, /, *more: *Ts) -> T:
        return remembered(text, *more) if len(text) <= LONGEST else function(text, *more)

    update_wrapper(call, function)
    return call
