"""Directories for nodes that do not share a file system: through Ray's object store, once per node."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from policies import PolicyError
from policies.weights import deleting, reading

CHUNK = 64 << 20
"""Bytes of one object: a directory of any size travels in pieces."""


@dataclass(frozen=True)
class SentDirectory:
    """The files of a directory as objects of Ray. `name` is unique: two directories never share one."""

    name: str
    files: tuple[tuple[str, tuple[Any, ...]], ...]
    """(file name, references of its chunks in order)"""


Place = Path | SentDirectory
"""A directory on this node, or one that has to be fetched."""


def send(directory: Path) -> SentDirectory:
    """Put the directory's files into Ray's object store. They stay there as long as the result is kept."""
    files = sorted(path for path in directory.iterdir() if path.is_file())
    with reading(directory):
        return SentDirectory(uuid.uuid4().hex, tuple((path.name, tuple(_put(path))) for path in files))


def _put(path: Path) -> Iterator[Any]:
    import ray

    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK):
            yield ray.put(chunk)


@contextmanager
def at_hand(place: Place) -> Iterator[Path]:
    """The directory on this node, fetched if need be, and kept from being deleted while the context lasts.

    Of the processes of a node the first one fetches, the others wait for it. Raises PolicyError if a directory that
    should be on this node is not.
    """
    if isinstance(place, Path):
        if not place.is_dir():
            raise PolicyError(
                f"{place} is not on node {os.uname().nodename}; copy it there, or set cluster.shared_files = false"
            )
        yield place
        return
    root = _root()
    root.mkdir(mode=0o700, exist_ok=True)
    if root.stat().st_uid != os.getuid():
        raise PolicyError(f"{root} belongs to another user; remove it, or set TMPDIR on that node")
    directory = root / place.name
    with (root / ".lock").open("w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        if not directory.is_dir():
            _delete_unused(root)
            _fetch(place, directory)
        lock = reading(directory)
        lock.__enter__()
    try:
        yield directory
    finally:
        lock.__exit__(None, None, None)


def delete_fetched() -> None:
    """Delete what was fetched to this node and no process reads; the last one to call it leaves nothing."""
    root = _root()
    if root.is_dir():
        with (root / ".lock").open("w") as turn:
            fcntl.flock(turn, fcntl.LOCK_EX)
            _delete_unused(root)


def _root() -> Path:
    return Path(tempfile.gettempdir()) / f"ratchet-{os.getuid()}"


def _fetch(sent: SentDirectory, directory: Path) -> None:
    import ray

    temporary = directory.with_name(f"{directory.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    for name, chunks in sent.files:
        with (temporary / name).open("wb") as stream:
            for chunk in chunks:
                stream.write(ray.get(chunk))
    temporary.rename(directory)


def _delete_unused(root: Path) -> None:
    """Directories that no process reads: each is read while it is loaded, and not needed after that."""
    for directory in root.iterdir():
        if directory.is_dir():
            with deleting(directory) as unused:
                if unused:
                    shutil.rmtree(directory)
