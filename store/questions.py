"""Questions of a run and their images, read from the store."""

import hashlib
import json
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

from PIL.Image import Image

from store.database import Store, as_json
from store.errors import StoreError, damage_named
from store.image_decoding import decode_image

BENCHMARK = "benchmark:"
"""The beginning of a published benchmark's split. Its questions are evaluated, but the run does not hold them out."""


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


def is_benchmark(split: str) -> bool:
    """Whether a split holds a published benchmark's questions."""
    return split.startswith(BENCHMARK)


def splits_of_image(store: Store, digest: str) -> list[str]:
    """Splits of the questions that have this image, but for published benchmarks."""
    rows = store.rows(
        "SELECT DISTINCT split FROM question_image JOIN question ON question.id = question_image.question"
        " WHERE question_image.image = ?",
        digest,
    )
    return [row["split"] for row in rows if not is_benchmark(row["split"])]


def splits_of_text(store: Store, text: str) -> list[str]:
    """Splits of the questions that have this text and no image, but for published benchmarks."""
    rows = store.rows(
        "SELECT DISTINCT split FROM question WHERE text = ?"
        " AND NOT EXISTS (SELECT 1 FROM question_image WHERE question_image.question = question.id)",
        text,
    )
    return [row["split"] for row in rows if not is_benchmark(row["split"])]


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


WITH_TEXT = "SELECT id FROM question WHERE text = ? ORDER BY id"
WITH_IMAGE = """
SELECT question.id FROM question_image JOIN question ON question.id = question_image.question
WHERE question_image.image = ? AND question_image.position = 0 AND question.text = ? ORDER BY question.id"""


def find_question_id(store: Store, text: str, images: Sequence[bytes]) -> int | None:
    """The id of the first stored question with this text and these images in this order."""
    wanted = [hashlib.sha256(image).hexdigest() for image in images]
    found = store.rows(WITH_IMAGE, wanted[0], text) if wanted else store.rows(WITH_TEXT, text)
    for row in found:
        present = store.rows("SELECT image FROM question_image WHERE question = ? ORDER BY position", row["id"])
        if [image["image"] for image in present] == wanted:
            return int(row["id"])
    return None


def load_image(store: Store, digest: str) -> Image:
    """A stored image by its hash, decoded as RGB."""
    return decode_image(image_bytes(store, digest)[0])


def image_bytes(store: Store, digest: str) -> tuple[bytes, str]:
    """The image file's bytes as ingested, and its format ("png", "jpeg")."""
    row = store.row("SELECT bytes, format FROM image WHERE sha256 = ?", digest)
    if row is None:
        raise StoreError(f"image {digest} is not in the store")
    return row["bytes"], row["format"]


def image_size(store: Store, digest: str) -> tuple[int, int]:
    """Width and height of an image in pixels."""
    row = store.row("SELECT width, height FROM image WHERE sha256 = ?", digest)
    if row is None:
        raise StoreError(f"image {digest} is not in the store")
    return row["width"], row["height"]


def count_images(store: Store) -> int:
    """Number of images in the store."""
    count: int = store.value("SELECT count(*) FROM image")
    return count


def most_images(store: Store) -> int:
    """The largest number of images of one usable question; at least 1."""
    usable = "question NOT IN (SELECT id FROM question WHERE unusable IS NOT NULL)"
    return store.value(f"SELECT max(position) + 1 FROM question_image WHERE {usable}") or 1


def has_images(store: Store) -> bool:
    """Whether any question has an image."""
    return store.row("SELECT 1 FROM question_image LIMIT 1") is not None


def has_questions(store: Store) -> bool:
    """Whether questions were ingested."""
    return store.row("SELECT 1 FROM question LIMIT 1") is not None


def newest_question(store: Store) -> int | None:
    """The id of the latest question."""
    newest: int | None = store.value("SELECT max(id) FROM question")
    return newest


def count_by_split(store: Store) -> dict[str, int]:
    """Split -> how many questions it has."""
    rows = store.rows("SELECT split, count(*) AS questions FROM question GROUP BY split")
    return {row["split"]: row["questions"] for row in rows}


def asks_judge(store: Store, rule: str) -> bool:
    """Whether the judge of any question has this rule, with any options."""
    return store.row("SELECT 1 FROM question WHERE judge LIKE ? || '%' LIMIT 1", rule) is not None


def split_of(store: Store, question: int) -> str:
    """The split of a question."""
    split: str = store.value("SELECT split FROM question WHERE id = ?", question)
    return split


def questions_by_id(store: Store, ids: Iterable[int]) -> dict[int, Question]:
    """Id -> question, in the order of the ids; an id that no question has is left out."""
    found = find_questions(store, "id IN (SELECT value FROM json_each(?)) ORDER BY id", as_json(list(ids)))
    return {question.id: question for question in found}


def round_questions(store: Store, round_number: int) -> list[Question]:
    """The questions that a round works on, in the order of their ids."""
    return find_questions(
        store, "id IN (SELECT question FROM round_question WHERE round = ?) ORDER BY id", round_number
    )


def questions_without_vote(store: Store, round_number: int, limit: int) -> list[Question]:
    """The first `limit` questions of a round whose votes are not counted yet."""
    return find_questions(
        store,
        "id IN (SELECT question FROM round_question WHERE round = ?)"
        " AND id NOT IN (SELECT question FROM vote WHERE round = ?)"
        # A question that the sampler refused has no samples to count.
        " AND EXISTS (SELECT 1 FROM sample WHERE round = ? AND sample.question = question.id) ORDER BY id LIMIT ?",
        round_number,
        round_number,
        round_number,
        limit,
    )


def first_question_ids(store: Store, split: str, limit: int) -> list[int]:
    """The smallest ids of a split's usable questions."""
    usable = "SELECT id FROM question WHERE split = ? AND unusable IS NULL ORDER BY id LIMIT ?"
    return [row["id"] for row in store.rows(usable, split, limit)]


def train_answer_counts(store: Store) -> Iterator[tuple[list[str], int]]:
    """Accepted answers, each list once, and how many of the usable train questions have them.

    They are counted in Python: SQLite would sort a million rows to group them, which takes twice as long.
    """
    with damage_named(store.path):
        rows = store.connection.execute(
            "SELECT answers FROM question NOT INDEXED WHERE split = 'train' AND answers <> '[]' AND unusable IS NULL"
        )
        counts = Counter(answers for (answers,) in rows)
    for answers, count in counts.items():
        yield json.loads(answers), count


def train_answers(store: Store, kinds: Collection[str] = ()) -> list[tuple[int, list[str]]]:
    """(id, accepted answers) of the usable, answered train questions in the order of their hashes; only of `kinds`."""
    rows = store.rows(
        "SELECT id, answers, kind FROM question"
        " WHERE split = 'train' AND answers <> '[]' AND unusable IS NULL ORDER BY hash"
    )
    return [(row["id"], json.loads(row["answers"])) for row in rows if not kinds or row["kind"] in kinds]


def train_images(store: Store) -> list[str]:
    """Digests of the images of train questions, in order."""
    rows = store.rows(
        "SELECT DISTINCT image FROM question_image JOIN question ON question.id = question WHERE split = 'train'"
        " ORDER BY image"
    )
    return [row["image"] for row in rows]


def units_of_round(store: Store, round_number: int) -> dict[int, str]:
    """Question -> its unit, of the round's questions that belong to one."""
    rows = store.rows(
        "SELECT id, unit FROM round_question JOIN question ON id = question WHERE round = ? AND unit IS NOT NULL",
        round_number,
    )
    return {row["id"]: row["unit"] for row in rows}


def units_of_split(store: Store, split: str) -> dict[int, str]:
    """Question -> its unit, of the questions of a split that belong to one."""
    rows = store.rows("SELECT id, unit FROM question WHERE split = ? AND unit IS NOT NULL", split)
    return {row["id"]: row["unit"] for row in rows}


def accepted_answers(store: Store, question: int) -> list[str]:
    """The accepted answers of a question; none where it is judged by vote."""
    answers: list[str] = json.loads(store.value("SELECT answers FROM question WHERE id = ?", question))
    return answers


def judge_and_choices(store: Store, question: int) -> tuple[str, list[str]]:
    """The judge of a question, and the options that it offers."""
    row = store.row("SELECT judge, choices FROM question WHERE id = ?", question)
    assert row is not None
    return row["judge"], json.loads(row["choices"])


MAY_BE_ASKED = "split = 'train' AND suspect IS NULL AND unusable IS NULL"
CANDIDATES = f"""
SELECT id, CAST(coalesce(unit, hash) AS BLOB), batch, answers FROM question NOT INDEXED
WHERE {MAY_BE_ASKED} AND (?1 OR answers != '[]')
  AND (?2 = '[]' OR kind IN (SELECT value FROM json_each(?2)))"""

Candidate = tuple[int, bytes, int, str]
"""(id, the unit or else the hash that it is drawn by, batch, JSON list of its answers)"""


def candidate_questions(store: Store, *, unanswered: bool, kinds: Collection[str] = ()) -> Iterator[Candidate]:
    """The train questions that a round may ask, unordered.

    `unanswered`: include those without an accepted answer. `kinds`: only these kinds. No suspect or unusable ones.
    """
    with damage_named(store.path):
        yield from store.connection.execute(CANDIDATES, (unanswered, as_json(list(kinds))))


def times_asked(store: Store) -> dict[int, int]:
    """Question -> number of rounds in which it was asked, for questions that were asked at all."""
    rows = store.stream("SELECT question, count(*) FROM round_question GROUP BY question")
    return {row[0]: row[1] for row in rows}


def train_kinds(store: Store) -> set[str]:
    """The kinds of the train questions that have an answer and may be asked."""
    rows = store.rows(
        f"SELECT DISTINCT kind FROM question WHERE {MAY_BE_ASKED} AND answers != '[]' AND kind IS NOT NULL"
    )
    return {row["kind"] for row in rows}
