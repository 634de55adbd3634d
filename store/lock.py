"""One controller per run directory: an advisory lock that dies with its process."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ratchet_error import RatchetError

FILE_NAME = "lock"
PATIENCE_S = 0.5
"""Seconds to retry: `lock_holder` takes the lock for an instant, which must not stop a controller from starting."""


class RunLocked(RatchetError):
    """Another process is running in this run directory."""


@contextmanager
def run_lock(run_dir: Path) -> Iterator[None]:
    """Hold `run_dir/lock` for the duration. The kernel releases it when the process ends in any way.

    The process number in the file is for people; a number left by a crash locks nothing.
    Raises RunLocked, naming the process that holds it.
    """
    descriptor = os.open(run_dir / FILE_NAME, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        deadline = time.monotonic() + PATIENCE_S
        while not _try_lock(descriptor, fcntl.LOCK_EX):
            if time.monotonic() > deadline:
                holder = _written_in(descriptor) or "unknown"
                raise RunLocked(f"{run_dir} is in use by process {holder}; wait for it or stop it, then run again")
            time.sleep(PATIENCE_S / 10)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def lock_holder(run_dir: Path) -> int | None:
    """The process that holds the lock now; None if none does, even if a crash left a number in the file."""
    try:
        descriptor = os.open(run_dir / FILE_NAME, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        return None if _try_lock(descriptor, fcntl.LOCK_SH) else int(_written_in(descriptor) or 0)
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int, how: int) -> bool:
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _written_in(descriptor: int) -> str:
    return os.pread(descriptor, 32, 0).decode(errors="replace").strip()
