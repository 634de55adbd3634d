"""Facts about a run's questions for the plan: the longest texts, and the sizes of images."""

import heapq
from collections.abc import Iterable, Iterator

from loop.planning.lengths import Questions, Sizes
from store import Store
from store.image_decoding import read_image_size
from store.new_questions import NewQuestion

LONGEST = 32
"""Texts that are counted in tokens: the longest by characters is not always the longest by tokens."""


def questions_of_store(store: Store) -> Questions:
    """The facts of the questions that a run has and may ask."""
    usable = "question.unusable IS NULL"
    texts = store.rows(f"SELECT DISTINCT text FROM question WHERE {usable} ORDER BY length(text) DESC LIMIT ?", LONGEST)
    sizes: dict[int, list[tuple[int, int]]] = {}
    kinds: set[Sizes] = set()
    for row in store.stream(
        "SELECT question, width, height FROM question_image JOIN image ON image.sha256 = question_image.image"
        f" JOIN question ON question.id = question_image.question WHERE {usable} ORDER BY question, position"
    ):
        if row["question"] not in sizes:
            kinds.update(tuple(each) for each in sizes.values())
            sizes.clear()
        sizes.setdefault(row["question"], []).append((row["width"], row["height"]))
    kinds.update(tuple(each) for each in sizes.values())
    images, pixels = store.rows("SELECT count(*), coalesce(sum(width * height), 0) FROM image")[0]
    return Questions([row["text"] for row in texts], kinds, images, pixels)


class QuestionsSeen:
    """Collects the facts of questions that pass by; images are not kept."""

    def __init__(self) -> None:
        self._texts: list[tuple[int, str]] = []
        self._sizes: set[Sizes] = set()
        self._pixels: dict[str, int] = {}

    def noted(self, questions: Iterable[NewQuestion]) -> Iterator[NewQuestion]:
        """The questions, unchanged; each is noted as it passes."""
        for question in questions:
            self._note(question)
            yield question

    def _note(self, question: NewQuestion) -> None:
        text = (len(question.text), question.text)
        if text not in self._texts:
            (heapq.heappush if len(self._texts) < LONGEST else heapq.heappushpop)(self._texts, text)
        sizes = tuple(read_image_size(image, question.where) for image in question.images)
        self._sizes.add(sizes)
        for digest, (width, height) in zip(question.digests, sizes, strict=True):
            self._pixels[digest] = width * height

    @property
    def questions(self) -> Questions | None:
        """The collected facts; None if no question passed."""
        if not self._texts:
            return None
        texts = [text for _, text in sorted(self._texts, reverse=True)]
        return Questions(texts, self._sizes, len(self._pixels), sum(self._pixels.values()))
