"""The heap of glibc on Linux, which keeps freed memory for itself. Other allocators are left alone."""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager

M_MMAP_THRESHOLD = -3
"""Name of the setting in glibc's `mallopt`."""

CHOSEN = "MALLOC_MMAP_THRESHOLD_"
"""The variable by which a user sets it; the user's value stays."""

OWN_MAPPING = 1 << 20
"""Bytes from which a block gets a mapping of its own where no free block of the heap is large enough."""

LARGEST_THRESHOLD = 32 << 20
"""The largest threshold of glibc: it rises to the size of the largest mapping that was freed, up to this."""


def give_back() -> None:
    """Return free pages to the system."""
    if hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        libc.malloc_trim(0)


@contextmanager
def freed_at_once(wanted: bool) -> Iterator[None]:
    """If wanted, give blocks of 1 MiB and more mappings of their own: freed, they leave no holes in the heap.

    glibc (2.36) does not use a freed aligned block for another of the same size. So a training that frees many tensors
    early holds up to twice what it uses. A new mapping costs time, because the system fills it with zeros. glibc no
    longer changes the threshold afterwards, so it stays at its largest.
    """
    libc = ctypes.CDLL(None)
    if not wanted or CHOSEN in os.environ or not hasattr(libc, "mallopt"):
        yield
        return
    libc.mallopt(M_MMAP_THRESHOLD, OWN_MAPPING)
    try:
        yield
    finally:
        libc.mallopt(M_MMAP_THRESHOLD, LARGEST_THRESHOLD)
