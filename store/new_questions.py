"""Questions to be stored, with their images: each is stored once, by its hash."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from json.encoder import encode_basestring
from typing import Any, Literal

from store.database import Store, texts_as_json
from store.image_decoding import inspect_image
from store.staging import Staging, open_staging
from store.unusable import mark_units_of_unusable

SplitFrom = Literal["source", "draw", "run"]


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
    """The kind of question, for accuracies by kind."""
    unit: str | None = None
    """The questions of a unit ask about the same candidates in different orders; the unit is right if both are."""
    split_from: SplitFrom = "source"
    """Origin of its split: the source, the draw of the held-out shares, or the run that already has the question."""
    unusable: str | None = None
    """Why it is stored but never asked; see `store/unusable.py`."""
    image_column: str | None = None
    """The column that its images came from, for error messages."""

    @property
    def image_where(self) -> str:
        """`where`, with the column of the images."""
        return self.where if self.image_column is None else f"{self.where}, column {self.image_column!r}"

    @cached_property
    def digests(self) -> list[str]:
        """The images' sha256 hex digests, in order."""
        return [hashlib.sha256(image).hexdigest() for image in self.images]

    @cached_property
    def hash(self) -> str:
        """The sha256 of text, answers, judge, split, images and choices, by which the store knows the question."""
        return self.hash_in(self.split)

    def hash_in(self, split: str) -> str:
        """`hash`, if the question were of this split."""
        answers, digests, choices = map(texts_as_json, (self.answers, self.digests, self.choices))
        text, judge, in_split = map(encode_basestring, (self.text, self.judge, split))
        more = f",{choices}" if self.choices else ""
        return hashlib.sha256(f"[{text},{answers},{judge},{in_split},{digests}{more}]".encode()).hexdigest()


class StagedQuestions:
    """Questions that are read and checked, with decoded images, but not in the store yet."""

    def __init__(self, store: Store, staging: Staging) -> None:
        self._store, self._staging = store, staging

    def add_images(self) -> None:
        """Store the new images in several transactions, so that no other process waits long for one.

        Images are identified by hash. One that a crash left without a question is used by the next call.
        """
        for piece in self._staging.image_pieces():
            with self._store.transaction():
                self._store.connection.executemany(
                    "INSERT INTO image VALUES (?, ?, ?, ?, ?) ON CONFLICT (sha256) DO NOTHING", piece
                )

    def add(self) -> int:
        """Store the questions that are new, all or none, as one batch; returns how many were.

        Their images must be stored already. A transaction of the caller's can still undo it.
        """
        with self._store.transaction():
            last = self._store.value("SELECT max(batch) FROM question")
            batch = 0 if last is None else last + 1
            added = self._store.connection.executemany(
                "INSERT INTO question (hash, external_id, text, answers, judge, split, source, choices, kind, unit,"
                " unusable, batch) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (hash) DO NOTHING",
                ((*columns, batch) for columns in self._staging.questions()),
            ).rowcount
            # A question that the store had keeps its images; one that was staged twice has its images here twice.
            self._store.connection.executemany(
                "INSERT INTO question_image SELECT id, ?, ? FROM question WHERE hash = ? AND batch = ?"
                " ON CONFLICT DO NOTHING",
                (
                    (position, digest, question, batch)
                    for question, digests in self._staging.images_of_questions()
                    for position, digest in enumerate(json.loads(digests))
                ),
            )
            mark_units_of_unusable(self._store, batch)
            return added


@contextmanager
def staged_questions(store: Store, questions: Iterable[NewQuestion]) -> Iterator[StagedQuestions]:
    """Read the questions and decode the images that the store lacks; nothing is locked or stored.

    Raises StoreError, naming the row, for an image that cannot be decoded completely.
    """
    with open_staging() as staging:
        for question in questions:
            for digest, content in zip(question.digests, question.images, strict=True):
                if not staging.has_image(digest) and not store.row("SELECT 1 FROM image WHERE sha256 = ?", digest):
                    staging.put_image((digest, content, *inspect_image(content, question.image_where)))
            staging.put_question((*_columns(question), texts_as_json(question.digests)))
        staging.flush()
        yield StagedQuestions(store, staging)


def add_questions(store: Store, questions: Iterable[NewQuestion]) -> int:
    """Store the questions that are new, all or none, as one batch; returns how many were.

    Raises StoreError, naming the row, for an image that cannot be decoded completely.
    """
    with staged_questions(store, questions) as staged:
        staged.add_images()
        return staged.add()


def _columns(question: NewQuestion) -> tuple[Any, ...]:
    return (
        question.hash,
        question.external_id,
        question.text,
        texts_as_json(question.answers),
        question.judge,
        question.split,
        question.source,
        texts_as_json(question.choices),
        question.kind,
        question.unit,
        question.unusable,
    )


def question_with_hash(store: Store, digest: str) -> int | None:
    """The id of the question that has this hash."""
    found: int | None = store.value("SELECT id FROM question WHERE hash = ?", digest)
    return found


def splits_of_question(store: Store, question: NewQuestion, splits: Sequence[str]) -> list[str]:
    """Those of `splits` in which the store has this question, whatever split the question itself names."""
    return [
        split
        for split in splits
        if store.row("SELECT 1 FROM question WHERE hash = ?", question.hash_in(split)) is not None
    ]
