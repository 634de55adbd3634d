"""Weights on disk: published whole or not at all, and known by their sha256."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError

from policies import PolicyError

if TYPE_CHECKING:
    import torch


def safetensors_files(directory: Path) -> list[Path]:
    """The directory's safetensors files in name order; raises PolicyError if there is none."""
    files = sorted(directory.glob("*.safetensors"))
    if not files:
        raise PolicyError(f"{directory} holds no *.safetensors; save the model with save_pretrained first")
    return files


def weights_sha256(directory: Path) -> str:
    """sha256 over the bytes of every safetensors file, in name order."""
    digest = hashlib.sha256()
    for file in safetensors_files(directory):
        with file.open("rb") as stream:
            while block := stream.read(1 << 22):
                digest.update(block)
    return digest.hexdigest()


class HashedWeights:
    """Named tensors of a directory, hashed as they are handed out.

    What is hashed is the very bytes that the tensors are made of, so after the last tensor
    `sha256` proves what was loaded, not what lies on disk a moment later.
    """

    def __init__(self, directory: Path) -> None:
        self._files = safetensors_files(directory)
        self._digest = hashlib.sha256()

    def __iter__(self) -> Iterator[tuple[str, torch.Tensor]]:
        # Not at the top: it loads torch, and 'check' only hashes.
        from safetensors.torch import load as parse_safetensors

        for file in self._files:
            content = file.read_bytes()
            self._digest.update(content)
            try:
                tensors = parse_safetensors(content)
            except SafetensorError as error:
                raise PolicyError(f"{file} is not whole ({error}); restore it") from error
            del content  # the tensors are copies; what was handed out is not kept either
            for name in list(tensors):
                yield name, tensors.pop(name)

    @property
    def sha256(self) -> str:
        """Digest of everything handed out so far."""
        return self._digest.hexdigest()


@contextmanager
def reading(directory: Path) -> Iterator[None]:
    """Keep a directory of weights from being deleted while it is read, whichever process reads it."""
    with _locked(directory, fcntl.LOCK_SH):
        yield


@contextmanager
def deleting(directory: Path) -> Iterator[bool]:
    """Keep others from reading a directory that is to be deleted; yields False if somebody reads it now."""
    with _locked(directory, fcntl.LOCK_EX | fcntl.LOCK_NB) as locked:
        yield locked


@contextmanager
def alone_in(directory: Path) -> Iterator[None]:
    """Wait until no other process works in a directory, and keep others waiting while the context lasts."""
    with _locked(directory, fcntl.LOCK_EX):
        yield


@contextmanager
def _locked(directory: Path, how: int) -> Iterator[bool]:
    """A kernel lock on the directory itself: it dies with its process and leaves no file behind."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, how)
        locked = True
    except BlockingIOError:
        locked = False
    try:
        yield locked
    finally:
        os.close(descriptor)


def delete_directory(directory: Path) -> None:
    """Delete a directory; where a link has its place, only the link: what it leads to may be of use to others."""
    if directory.is_symlink():
        directory.unlink()
    else:
        shutil.rmtree(directory)


SHARD_SIZE = 2 * 10**9
"""A file of weights is at most so large: a swap reads one at a time, and holds it beside the model."""


def publish(
    model: Any,
    processor: Any,
    directory: Path,
    adapters: Mapping[str, Path] | None = None,
    shard_size: int | str = SHARD_SIZE,
) -> str:
    """Write model and processor to `directory` so that it appears complete or not at all.

    Written beside, flushed to disk, renamed. A leftover of a crash before the store recorded it is
    replaced. `adapters` are directories that are copied into it, by the name that they get there; they are no part of
    the weights. Returns the weights' sha256.
    """
    with written_whole(directory) as temporary:
        try:
            model.save_pretrained(temporary, max_shard_size=shard_size)
            processor.save_pretrained(temporary)
        except SafetensorError as error:
            raise PolicyError(f"{directory}: the weights cannot be written ({error}); free some space") from error
        for name, adapter in (adapters or {}).items():
            shutil.copytree(adapter, temporary / name)
    return weights_sha256(directory)


@contextmanager
def written_whole(directory: Path) -> Iterator[Path]:
    """A directory to write into, which takes the name once everything in it is on disk; what has the name goes."""
    temporary = unfinished(directory)
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    yield temporary
    for file in temporary.rglob("*"):
        flush(file)
    flush(temporary)
    if os.path.lexists(directory):
        delete_directory(directory)
    temporary.rename(directory)
    flush(directory.parent)


def unfinished(directory: Path) -> Path:
    """The name that a directory has until everything in it is written."""
    return directory.with_name(directory.name + ".tmp")


def write_whole(file: Path, text: str) -> None:
    """Write a file so that it appears complete or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(file.name + ".tmp")
    temporary.write_text(text, encoding="utf-8")
    flush(temporary)
    temporary.replace(file)
    flush(file.parent)


def flush(path: Path) -> None:
    """Have a file, or a directory's list of names, on the disk before what comes next."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def changed_share(old: Path, new: Path, dtype: str) -> float:
    """The share of weights that differ between two directories once they are rounded to a dtype ("bfloat16").

    Tensors are read one at a time. What only one directory has is left out: an output layer tied to the embeddings may
    be written or not.
    """
    import torch
    from safetensors import safe_open

    wanted = getattr(torch, dtype)
    places: list[dict[str, Any]] = [{}, {}]
    changed = total = 0
    with ExitStack() as stack:
        for place, directory in zip(places, (old, new), strict=True):
            for file in safetensors_files(directory):
                reader = stack.enter_context(safe_open(file, "pt"))
                place |= dict.fromkeys(reader.keys(), reader)
        for name in sorted(places[0].keys() & places[1].keys()):
            was, now = (place[name].get_tensor(name).to(wanted) for place in places)
            total += now.numel()
            changed += int((was != now).sum()) if was.shape == now.shape else now.numel()
    return changed / max(1, total)
