"""The heap of glibc on Linux, which keeps freed memory for itself. Other allocators are left alone."""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

M_MMAP_THRESHOLD = -3
"""Name of the setting in glibc's `mallopt`."""

OWN_MAPPING = 1 << 20
"""Bytes from which a block gets a mapping of its own."""

LARGEST_THRESHOLD = 32 << 20
"""The threshold that glibc itself reaches once larger blocks were freed; it does not go beyond."""


def give_back() -> None:
    """Return free pages to the system."""
    if hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        libc.malloc_trim(0)


@contextmanager
def freed_at_once(wanted: bool) -> Iterator[None]:
    """If wanted, give blocks of 1 MiB and more mappings of their own: freed, they leave no holes in the heap.

    glibc (2.36) does not use a freed aligned block for another of the same size. So a training that frees many tensors
    early holds up to twice what it uses. A new mapping costs time, because the system fills it with zeros.
    """
    libc = ctypes.CDLL(None)
    if not wanted or not hasattr(libc, "mallopt"):
        yield
        return
    libc.mallopt(M_MMAP_THRESHOLD, OWN_MAPPING)
    try:
        yield
    finally:
        libc.mallopt(M_MMAP_THRESHOLD, LARGEST_THRESHOLD)
