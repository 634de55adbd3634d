"""What is to be added to the store, kept in a temporary file until all of it is read and checked.

Reading and decoding take as long as they take; the store is locked only to copy what is ready.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

PIECE_BYTES = 32 << 20
"""Image bytes of one transaction: another writer waits for no more than these."""

ImageRow = tuple[str, bytes, str, int, int]
"""(sha256, bytes, format, width, height), as table `image` has it."""


class Staging:
    """Images and question rows in the order in which they came."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def has_image(self, digest: str) -> bool:
        """Whether an image of this sha256 was put here."""
        return self._connection.execute("SELECT 1 FROM image WHERE sha256 = ?", (digest,)).fetchone() is not None

    def put_image(self, image: ImageRow) -> None:
        """Keep an image that is not here yet."""
        self._connection.execute("INSERT INTO image VALUES (?, ?, ?, ?, ?)", image)

    def image_pieces(self) -> Iterator[list[ImageRow]]:
        """The images in lists of `PIECE_BYTES`; a larger image is a list of its own."""
        piece: list[ImageRow] = []
        size = 0
        for image in self._connection.execute("SELECT * FROM image ORDER BY rowid"):
            if piece and size + len(image[1]) > PIECE_BYTES:
                yield piece
                piece, size = [], 0
            piece.append(image)
            size += len(image[1])
        if piece:
            yield piece

    def put_question(self, columns: tuple[Any, ...], images: str) -> None:
        """Keep a question: its eleven columns as the store has them, and the JSON list of its images' digests."""
        self._connection.execute("INSERT INTO question VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", (*columns, images))

    def questions(self) -> Iterator[tuple[Any, ...]]:
        """The questions as they were put, the JSON list last."""
        return self._connection.execute("SELECT * FROM question ORDER BY rowid")


@contextmanager
def open_staging() -> Iterator[Staging]:
    """An empty staging area, in a file that SQLite makes in its temporary directory (`SQLITE_TMPDIR`) and deletes."""
    with closing(sqlite3.connect("", isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = OFF")
        connection.execute("CREATE TABLE image (sha256 TEXT PRIMARY KEY, bytes, format, width, height)")
        connection.execute("""CREATE TABLE question
            (hash, external_id, text, answers, judge, split, source, choices, kind, unit, unusable, images)""")
        connection.execute("BEGIN")
        yield Staging(connection)
