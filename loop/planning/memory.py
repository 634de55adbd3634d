"""Bytes by purpose, and the largest sum of those held at once."""

from collections.abc import Mapping
from dataclasses import dataclass, field

GIB = 2**30
MIB = 2**20


@dataclass(frozen=True)
class Memory:
    """The memory of one phase on one device: the size of each part, and the peak of all together.

    Parts that are never held at the same time make the peak smaller than their sum.
    """

    peak: int = 0
    parts: Mapping[str, int] = field(default_factory=dict)


def memory(parts: Mapping[str, float], peak: float | None = None) -> Memory:
    """Memory of these parts, all held at once unless a peak is given."""
    whole = {name: int(size) for name, size in parts.items() if size}
    return Memory(sum(whole.values()) if peak is None else int(peak), whole)
