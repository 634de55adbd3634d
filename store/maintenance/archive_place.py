"""The place of archive files: beside the store, or at a URL that fsspec opens (object storage).

A store names a file beside it by its path from the run's directory, any other by its URL. fsspec reads credentials from
the environment, so none is stored.
"""

import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from store.errors import StoreError

FOLDER = "archive"
BLOCK = 1 << 20


def is_url(file: str) -> bool:
    """Whether an archive file is at a URL, not beside the store."""
    return "://" in file


def require_place(url: str) -> str:
    """The URL of a folder without its last slash; raises StoreError if no archive can be put there."""
    if not is_url(url):
        raise StoreError(f"{url!r} is no URL; name a folder as SCHEME://PATH, for example s3://bucket/runs/demo")
    if "@" in url or re.search(r"(key|secret|token|password)=", url, re.IGNORECASE):
        raise StoreError("the URL must not hold a key or a password: it is stored; set it in the environment")
    _file_system(url)
    return url.rstrip("/")


def put(file: Path, url: str) -> None:
    """Copy a file to a URL; raises StoreError if it cannot be written."""
    system, path = _file_system(url)
    try:
        system.makedirs(path.rpartition("/")[0], exist_ok=True)
        system.put_file(str(file), path)
    except Exception as error:  # every service has errors of its own
        raise StoreError(f"{url} cannot be written ({_line(error)})") from error


@contextmanager
def opened(run_dir: Path, file: str) -> Iterator[BinaryIO]:
    """An archive file as the store names it, open for reading. Raises OSError if it is not there."""
    if not is_url(file):
        with (run_dir / file).open("rb") as stream:
            yield stream
        return
    system, path = _file_system(file)
    try:
        stream = system.open(path, "rb")
    except OSError:
        raise
    except Exception as error:  # every service has errors of its own
        raise OSError(_line(error)) from error
    with stream:
        yield stream


def sha256(run_dir: Path, file: str) -> str:
    """sha256 of an archive file's bytes, as hex. Raises OSError if it is not there."""
    digest = hashlib.sha256()
    with opened(run_dir, file) as stream:
        while block := stream.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


def flush(folder: Path) -> None:
    """Have a folder's list of names on the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _file_system(url: str) -> tuple[Any, str]:
    import fsspec

    try:
        system, path = fsspec.core.url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise StoreError(
            f"{url} cannot be opened ({_line(error)}); install the package that it needs, or name another place"
        ) from error
    return system, str(path)


def _line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
