"""Questions of published benchmarks, and which of their images the run trains on."""

from store.database import Store

TRAINED_ON = "tq.split IN ('train', 'imported')"
SAME_FILE = f"""
SELECT b.question, min(t.question) AS trained FROM question_image AS b
JOIN question ON question.id = b.question JOIN question_image AS t ON t.image = b.image
JOIN question AS tq ON tq.id = t.question WHERE question.split = ? AND {TRAINED_ON} GROUP BY b.question"""
SAME_SIZE = f"""
SELECT DISTINCT image.sha256, image.width, image.height FROM image JOIN question_image AS t ON t.image = image.sha256
JOIN question AS tq ON tq.id = t.question WHERE {TRAINED_ON} AND (image.width, image.height) IN
(SELECT image.width, image.height FROM image JOIN question_image AS b ON b.image = image.sha256
 JOIN question ON question.id = b.question WHERE question.split = ?)"""
OF_SPLIT = """
SELECT DISTINCT image.sha256, image.width, image.height FROM image JOIN question_image AS b ON b.image = image.sha256
JOIN question ON question.id = b.question WHERE question.split = ?"""
WITH_DIGEST = f"""
SELECT min(t.question) FROM question_image AS t JOIN question AS tq ON tq.id = t.question
WHERE t.image = ? AND {TRAINED_ON}"""


def same_files_trained_on(store: Store, split: str) -> dict[int, int]:
    """Question of a split -> the first question that is trained on with one of its image files."""
    return {row["question"]: row["trained"] for row in store.rows(SAME_FILE, split)}


def images_of_equal_size(store: Store, split: str) -> tuple[list[str], list[str]]:
    """Digests of a split's images, and of the trained images that have the same size as one of them."""
    own = [row["sha256"] for row in store.rows(OF_SPLIT, split)]
    return own, [row["sha256"] for row in store.stream(SAME_SIZE, split)]


def question_trained_with(store: Store, digest: str) -> int | None:
    """The first question that is trained on with this image."""
    found: int | None = store.value(WITH_DIGEST, digest)
    return found


def questions_with_image(store: Store, digest: str, split: str) -> list[int]:
    """The questions of a split that have this image."""
    rows = store.rows(
        "SELECT question FROM question_image JOIN question ON question.id = question WHERE image = ? AND split = ?",
        digest,
        split,
    )
    return [row["question"] for row in rows]
