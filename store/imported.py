"""Preference pairs from elsewhere: they wait here until an update takes them into its round."""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from store.database import Store, as_json, now
from store.questions import NewQuestion, add_questions
from store.samples import NewSample, add_samples

RULE = "imported"


@dataclass(frozen=True)
class NewImportedPair:
    """A chosen and a rejected text for a question; `line` is where the file has it.

    `question` is the id of a stored question, or a question to store.
    """

    question: int | NewQuestion
    style: str
    chosen: str
    rejected: str
    line: int


def add_imported_pairs(store: Store, pairs: Iterable[NewImportedPair], file: str, file_sha256: str) -> int:
    """Store the pairs that are new, all or none; returns how many were."""
    with store.transaction():
        return sum(_add(store, pair, file, file_sha256) for pair in pairs)


def _add(store: Store, pair: NewImportedPair, file: str, file_sha256: str) -> bool:
    question = pair.question
    if isinstance(question, NewQuestion):
        add_questions(store, [question])
        found = find_question(store, question.text, question.images)
        assert found is not None
        question = found
    identity = as_json([question, pair.style, pair.chosen, pair.rejected])
    written = store.connection.execute(
        "INSERT OR IGNORE INTO imported_pair (hash, question, style, chosen, rejected, file, file_sha256, line,"
        " imported) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            hashlib.sha256(identity.encode()).hexdigest(),
            question,
            pair.style,
            pair.chosen,
            pair.rejected,
            file,
            file_sha256,
            pair.line,
            now(),
        ),
    )
    return written.rowcount == 1


WITH_TEXT = "SELECT id FROM question WHERE text = ? ORDER BY id"
WITH_IMAGE = """
SELECT question.id FROM question_image JOIN question ON question.id = question_image.question
WHERE question_image.image = ? AND question_image.position = 0 AND question.text = ? ORDER BY question.id"""


def find_question(store: Store, text: str, images: Sequence[bytes]) -> int | None:
    """The first stored question with this text and these images in this order."""
    wanted = [hashlib.sha256(image).hexdigest() for image in images]
    found = store.rows(WITH_IMAGE, wanted[0], text) if wanted else store.rows(WITH_TEXT, text)
    for row in found:
        present = store.rows("SELECT image FROM question_image WHERE question = ? ORDER BY position", row["id"])
        if [image["image"] for image in present] == wanted:
            return int(row["id"])
    return None


def adopt_imported_pairs(store: Store, number: int, encode: Callable[[str], Sequence[int]]) -> int:
    """Make every waiting pair a pair of this round, all in one transaction; returns how many there were.

    `encode` gives the token ids that the policy is trained on. Called again it finds nothing waiting.
    """
    with store.transaction():
        waiting = store.rows("SELECT * FROM imported_pair WHERE pair IS NULL ORDER BY id")
        for row in waiting:
            sides = []
            for index, text in ((2 * row["id"], row["chosen"]), (2 * row["id"] + 1, row["rejected"])):
                new = NewSample(
                    round=number,
                    question=row["question"],
                    author="imported",
                    policy=None,
                    style=row["style"],
                    index=index,
                    text=text,
                    token_ids=encode(text),
                    finish_reason="stop",
                )
                add_samples(store, [new])
                sides.append(store.value("SELECT last_insert_rowid()"))
            pair = store.connection.execute(
                "INSERT INTO pair (round, chosen, rejected, rule, weight, source) VALUES (?, ?, ?, ?, 1.0, 'imported')",
                (number, *sides, RULE),
            ).lastrowid
            store.connection.execute("UPDATE imported_pair SET pair = ? WHERE id = ?", (pair, row["id"]))
    return len(waiting)
