"""Directories for nodes that do not share a file system: streamed through Ray's object store, once per node.

A process on the directory's node puts a piece into the store when a node asks for it, and keeps the last few: nodes
that fetch at the same time share a piece, which Ray sends from any node that has it. So the store never holds a whole
directory: the weights of 8 billion parameters would take 16 GB of the node's shared memory.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import tempfile
import uuid
from collections import OrderedDict, deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from policies import PolicyError
from policies.weights import deleting, reading, unfinished

PIECE = 32 << 20
"""Bytes of one object: files of any size travel in pieces."""

AHEAD = 2
"""Pieces that a node asks for before it has written the one at hand."""

KEPT = 4
"""Pieces that stay in the object store for nodes that are a little behind."""

TRIES = 3
"""How often a piece is asked for, where it was lost on its way."""


@dataclass(frozen=True)
class SentDirectory:
    """The files of a directory on another node. `name` is unique: two directories never share one.

    It can be fetched as long as a copy of `source`, the process that sends it, exists.
    """

    name: str
    files: tuple[tuple[str, int], ...]
    """(file name, bytes)"""
    source: Any


Place = Path | SentDirectory
"""A directory on this node, or one that has to be fetched."""


class Source:
    """Sends pieces of a directory's files, and keeps the files from being deleted while it lives."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._kept = OrderedDict[tuple[str, int], Any]()
        self._lock = reading(directory)
        self._lock.__enter__()

    def piece(self, name: str, start: int) -> list[Any]:
        """A list of one reference: the bytes of a file from there on, `PIECE` at most."""
        import ray

        if (name, start) not in self._kept:
            with (self._directory / name).open("rb") as stream:
                stream.seek(start)
                self._kept[name, start] = ray.put(stream.read(PIECE))
            if len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        return [self._kept[name, start]]


def send(directory: Path) -> SentDirectory:
    """Let other nodes fetch the directory's files, as long as the result is kept."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    # After a restart it has the same files, and reads a lost piece again.
    remote = ray.remote(Source).options(num_cpus=0, max_restarts=-1, max_task_retries=-1, scheduling_strategy=here)
    files = sorted(path for path in directory.iterdir() if path.is_file())
    return SentDirectory(
        uuid.uuid4().hex, tuple((path.name, path.stat().st_size) for path in files), remote.remote(directory.resolve())
    )


@contextmanager
def at_hand(place: Place) -> Iterator[Path]:
    """The directory on this node, fetched if necessary, and kept from being deleted while the context lasts.

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
    with suppress(FileExistsError):
        root.mkdir(mode=0o700)
    if not _is_own(root):
        raise PolicyError(f"{root} is a link or belongs to another user; remove it, or set TMPDIR on that node")
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
    """Delete the fetched directories of this node that no process reads; the last process to call this deletes all."""
    root = _root()
    if _is_own(root):
        with (root / ".lock").open("w") as turn:
            fcntl.flock(turn, fcntl.LOCK_EX)
            _delete_unused(root)


def _root() -> Path:
    return Path(tempfile.gettempdir()) / f"ratchet-{os.getuid()}"


def _is_own(root: Path) -> bool:
    """Whether it is this user's own directory and not a link: any user may write to the temporary directory.

    Directories in it are deleted, so a link to a home directory would delete files there.
    """
    try:
        found = root.lstat()
    except FileNotFoundError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()


def _fetch(sent: SentDirectory, directory: Path) -> None:
    temporary = unfinished(directory)
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    for name, size in sent.files:
        with (temporary / name).open("wb") as stream:
            for piece in _pieces(sent, name, size):
                stream.write(piece)
            if stream.tell() != size:
                raise PolicyError(f"{name} was cut short on its way to node {os.uname().nodename}; run again")
    temporary.rename(directory)


def _pieces(sent: SentDirectory, name: str, size: int) -> Iterator[bytes]:
    """A file's pieces in order; the next ones are fetched while one is written, and none is kept afterwards."""
    starts, coming = iter(range(0, size, PIECE)), deque[tuple[int, Any]]()
    while True:
        while len(coming) < AHEAD and (start := next(starts, None)) is not None:
            coming.append((start, sent.source.piece.remote(name, start)))
        if not coming:
            return
        yield _arrived(sent, name, *coming.popleft())


def _arrived(sent: SentDirectory, name: str, start: int, asked: Any) -> bytes:
    """Wait for a piece; ask for it again if its source died."""
    import ray

    for _ in range(TRIES - 1):
        try:
            piece: bytes = ray.get(ray.get(asked)[0])
        except ray.exceptions.ObjectLostError:
            asked = sent.source.piece.remote(name, start)
        else:
            return piece
    return bytes(ray.get(ray.get(asked)[0]))


def _delete_unused(root: Path) -> None:
    """Delete directories that no process reads: each is needed only while it is loaded."""
    for directory in root.iterdir():
        if directory.is_dir():
            with deleting(directory) as unused:
                if unused:
                    shutil.rmtree(directory)
