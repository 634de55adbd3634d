"""A cache for functions of short texts: the same answers occur again and again."""

from collections.abc import Callable
from functools import lru_cache, update_wrapper
from typing import TypeVar, TypeVarTuple

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
ENTRIES = 8192
LONGEST = 200


def remember_short(function: Callable[[str, *Ts], T]) -> Callable[[str, *Ts], T]:
    """`function` with a cache for texts of up to 200 characters, so that the cache stays small.

    Further arguments must be hashable.
    """
    remembered = lru_cache(maxsize=ENTRIES)(function)

    def call(text: str, /, *more: *Ts) -> T:
        return remembered(text, *more) if len(text) <= LONGEST else function(text, *more)

    update_wrapper(call, function)
    return call
