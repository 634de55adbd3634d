"""The lines of a text file, read several times but never held all at once."""

import hashlib
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import IO

from loop.errors import InputError

BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class Lines:
    """The lines of a UTF-8 file that hold anything, with their numbers from 1.

    A line ends with a line feed and nothing else: a text may hold other separators, as U+2028. What cannot be read
    twice (a pipe) is copied to a temporary file. Raises InputError where the file cannot be read, or was changed
    between two times.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._copy: IO[bytes] | None = None
        self._digest: bytes | None = None
        try:
            if path.exists() and not path.is_file() and not path.is_dir():
                self._copy = tempfile.TemporaryFile()  # noqa: SIM115 (closed with this object)
                with path.open("rb") as stream:
                    shutil.copyfileobj(stream, self._copy)
            self.count = sum(1 for _ in self)
        except OSError as error:
            raise InputError(f"questions file {path} cannot be read: {error}") from error

    def __iter__(self) -> Iterator[tuple[int, str]]:
        digest = hashlib.sha256()
        with self._open() as file:
            for number, line in enumerate(file, 1):
                digest.update(line)
                try:
                    text = (line.removeprefix(BYTE_ORDER_MARK) if number == 1 else line).decode()
                except UnicodeDecodeError as error:
                    where = f"questions file {self._path} cannot be read: line {number}"
                    raise InputError(f"{where}: {error}") from error
                if text and not text.isspace():
                    yield number, text
        if self._digest is not None and digest.digest() != self._digest:
            raise InputError(f"{self._path} was changed while it was read; try again")
        self._digest = digest.digest()

    def _open(self) -> IO[bytes] | nullcontext[IO[bytes]]:
        if self._copy is None:
            return self._path.open("rb")
        self._copy.seek(0)
        return nullcontext(self._copy)
