"""Rows and images to be added to the store, in a temporary file until all are read and checked.

Reading and decoding may take long; the store is locked only while the result is copied.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

PIECE_BYTES = 32 << 20
"""Image bytes per transaction: another writer waits for no more than these."""

PIECE_QUESTIONS = 1000
"""Questions that are written at once."""

ImageRow = tuple[str, bytes, str, int, int]
"""(sha256, bytes, format, width, height), as table `image` has it."""


class Staging:
    """Images and question rows in the order in which they came."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._waiting: list[tuple[Any, ...]] = []

    def has_image(self, digest: str) -> bool:
        """Whether an image with this sha256 is staged."""
        return self._connection.execute("SELECT 1 FROM image WHERE sha256 = ?", (digest,)).fetchone() is not None

    def put_image(self, image: ImageRow) -> None:
        """Stage an image unless it is staged already."""
        self._connection.execute("INSERT INTO image VALUES (?, ?, ?, ?, ?)", image)

    def image_pieces(self) -> Iterator[list[ImageRow]]:
        """The images in lists of at most `PIECE_BYTES`; a larger image is alone in its list."""
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

    def put_question(self, row: tuple[Any, ...]) -> None:
        """Stage a question: its eleven columns as in the store, and the JSON list of its images' digests.

        It is written by the next `flush` at the latest.
        """
        self._waiting.append(row)
        if len(self._waiting) == PIECE_QUESTIONS:
            self.flush()

    def flush(self) -> None:
        """Write the questions that are still held in memory."""
        insert = "INSERT INTO question VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
        self._connection.executemany(insert, self._waiting)
        self._waiting.clear()

    def questions(self) -> Iterator[tuple[Any, ...]]:
        """The staged questions, without their images."""
        columns = "hash, external_id, text, answers, judge, split, source, choices, kind, unit, unusable"
        return self._connection.execute(f"SELECT {columns} FROM question ORDER BY rowid")

    def images_of_questions(self) -> Iterator[tuple[str, str]]:
        """(hash, JSON list of digests) of the questions that have images."""
        return self._connection.execute("SELECT hash, images FROM question WHERE images <> '[]' ORDER BY rowid")


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
