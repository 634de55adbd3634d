"""Reads a whole source once before there is a run: its table of splits, its lengths, its first questions."""

import heapq
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from loop.config.questions import QuestionsConfig
from loop.planning.lengths import Questions
from loop.planning.questions import QuestionsSeen
from loop.questions.registry import ReadQuestions
from loop.questions.split_table import SplitTable
from loop.reporting import Reporter
from store.new_questions import NewQuestion

LONGEST = 32
"""Accepted answers that are kept: the longest by characters is not always the longest by tokens."""


@dataclass(frozen=True)
class Scan:
    """The questions in figures. `lines` is the table of splits with its warnings; `first` are train questions."""

    lines: Sequence[str]
    rows: dict[str, int]
    questions: Questions
    answers: Sequence[str]
    first: Sequence[NewQuestion]


def scan_source(config: QuestionsConfig, read: ReadQuestions, first: int, reporter: Reporter) -> Scan:
    """Read every question; raises InputError naming the first bad row."""
    table, seen, answers = SplitTable(), QuestionsSeen(), _LongestTexts()
    kept: list[NewQuestion] = []
    for question in table.counted(seen.noted(answers.noted(read(config, reporter))), reporter):
        if question.split == "train" and len(kept) < first:
            kept.append(question)
    questions = seen.questions
    return Scan(
        table.lines(config), dict(table.rows), Questions([]) if questions is None else questions, answers.texts, kept
    )


class _LongestTexts:
    def __init__(self) -> None:
        self._heap: list[tuple[int, str]] = []

    def noted(self, questions: Iterable[NewQuestion]) -> Iterator[NewQuestion]:
        for question in questions:
            for answer in question.answers:
                entry = (len(answer), answer)
                if entry not in self._heap:
                    (heapq.heappush if len(self._heap) < LONGEST else heapq.heappushpop)(self._heap, entry)
            yield question

    @property
    def texts(self) -> list[str]:
        return [text for _, text in sorted(self._heap, reverse=True)]
