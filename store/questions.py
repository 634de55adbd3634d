"""Questions and their images: ingested once, images stored once by hash."""

import hashlib
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from PIL import Image, UnidentifiedImageError

from store.database import Store, StoreError, as_json


@dataclass(frozen=True)
class NewQuestion:
    """A question as a source gives it; `images` are the bytes of the image files.

    `where` names the row it came from (file and line), for error messages.
    """

    text: str
    answers: Sequence[str]
    images: Sequence[bytes]
    split: str
    source: str
    judge: str
    external_id: str | None = None
    where: str = ""
    choices: Sequence[str] = ()
    kind: str | None = None
    """What sort of question it is, for accuracies by kind."""


@dataclass(frozen=True)
class Question:
    """A question as the store holds it; `images` are sha256 hex digests."""

    id: int
    text: str
    answers: tuple[str, ...]
    judge: str
    split: str
    images: tuple[str, ...]
    choices: tuple[str, ...] = ()


def add_questions(store: Store, questions: Iterable[NewQuestion]) -> int:
    """Store the questions that are new, all or none, as one batch; returns how many were.

    Raises StoreError, naming the row, for an image that cannot be decoded completely.
    """
    with store.transaction():
        last = store.value("SELECT max(batch) FROM question")
        batch = 0 if last is None else last + 1
        return sum(_add(store, question, batch) for question in questions)


def _add(store: Store, question: NewQuestion, batch: int) -> bool:
    digests = [hashlib.sha256(image).hexdigest() for image in question.images]
    identity = [question.text, list(question.answers), question.judge, question.split, digests]
    identity += [list(question.choices)] if question.choices else []
    key = hashlib.sha256(as_json(identity).encode()).hexdigest()
    if store.row("SELECT 1 FROM question WHERE hash = ?", key):
        return False
    for digest, content in zip(digests, question.images, strict=True):
        if not store.row("SELECT 1 FROM image WHERE sha256 = ?", digest):
            kind, width, height = _inspect_image(content, question.where)
            store.connection.execute("INSERT INTO image VALUES (?, ?, ?, ?, ?)", (digest, content, kind, width, height))
    cursor = store.connection.execute(
        "INSERT INTO question (hash, external_id, text, answers, judge, split, source, batch, choices, kind)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            key,
            question.external_id,
            question.text,
            as_json(list(question.answers)),
            question.judge,
            question.split,
            question.source,
            batch,
            as_json(list(question.choices)),
            question.kind,
        ),
    )
    store.connection.executemany(
        "INSERT INTO question_image VALUES (?, ?, ?)",
        [(cursor.lastrowid, position, digest) for position, digest in enumerate(digests)],
    )
    return True


def _inspect_image(content: bytes, where: str) -> tuple[str, int, int]:
    try:
        with Image.open(io.BytesIO(content)) as image:
            image.load()
            return str(image.format).lower(), image.width, image.height
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        raise StoreError(f"{where}: the image cannot be read ({error}); replace it or leave it out") from error


SELECT = """SELECT question.*, (SELECT json_group_array(image) FROM (
    SELECT image FROM question_image WHERE question = question.id ORDER BY position)) AS images FROM question"""


def find_questions(store: Store, condition: str, *parameters: object) -> list[Question]:
    """Questions that meet an SQL condition on the `question` table, which may end in ORDER BY and LIMIT."""
    return [
        Question(
            row["id"],
            row["text"],
            tuple(json.loads(row["answers"])),
            row["judge"],
            row["split"],
            tuple(json.loads(row["images"])),
            tuple(json.loads(row["choices"])),
        )
        for row in store.rows(f"{SELECT} WHERE {condition}", *parameters)
    ]


def load_image(store: Store, digest: str) -> Image.Image:
    """Decode an image by its hash, as RGB."""
    with Image.open(io.BytesIO(image_bytes(store, digest)[0])) as image:
        return image.convert("RGB")


def image_bytes(store: Store, digest: str) -> tuple[bytes, str]:
    """The image file's bytes as ingested, and its format ("png", "jpeg")."""
    row = store.row("SELECT bytes, format FROM image WHERE sha256 = ?", digest)
    if row is None:
        raise StoreError(f"image {digest} is not in the store")
    return row["bytes"], row["format"]
