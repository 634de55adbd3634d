"""The table of splits: rows, answers and images of each, and warnings."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from loop.config.questions import QuestionsConfig
from loop.errors import InputError
from loop.questions.splits import HELD_OUT, SPLITS, wanted_shares
from loop.reporting import Reporter
from store.digest_set import DigestSet
from store.new_questions import NewQuestion

EXPECTED = 5
"""An answer is missed in a split where it would be expected so many times."""

DRAWN = 200
"""Shares of fewer drawn rows say nothing."""

TOLERANCE = 0.02
NAMED = 5
"""Missing answers that are named; of more the number is given."""

LONGEST = 40
"""Characters of an answer that is named."""


def require_splits(counts: Mapping[str, int], reported: str) -> None:
    """Raise InputError unless there are questions to train on and questions to report on."""
    for split in ("train", reported):
        if not counts.get(split):
            raise InputError(
                f"no question of split {split!r} among {sum(counts.values())}; give rows a 'split', or see"
                " questions.held_out_share"
            )


class SplitTable:
    """Counts questions by split as they pass. It keeps their answers in memory, and digests in a file."""

    def __init__(self) -> None:
        self.rows: Counter[str] = Counter()
        """Questions of each split."""
        self._known = DigestSet()
        self._repeated = 0
        self._labelled: Counter[str] = Counter()
        self._drawn: Counter[str] = Counter()
        self._named: set[str] = set()
        self._answers: dict[str, Counter[str]] = {split: Counter() for split in SPLITS}
        self._known_images = DigestSet()
        self._images: Counter[str] = Counter()

    def counted(self, questions: Iterable[NewQuestion], reporter: Reporter) -> Iterator[NewQuestion]:
        """Yield the same questions, count the usable ones, and show a progress bar."""
        with reporter.bar("questions", 0, "question") as bar:
            for question in questions:
                if question.unusable is None:
                    self.count(question)
                yield question
                bar.update()

    def count(self, question: NewQuestion) -> None:
        """Count one question of split train, gate or test; one that came before counts once, as in the store."""
        split = question.split
        if not self._known.add(bytes.fromhex(question.hash)[:16]):
            self._repeated += 1
            return
        self.rows[split] += 1
        self._labelled[split] += bool(question.answers)
        self._drawn[split] += question.split_from == "draw"
        if question.split_from == "source":
            self._named.add(split)
        answers = self._answers[split]
        for answer in {answer.casefold() for answer in question.answers}:
            answers[answer] += 1
        for digest in question.digests:
            self._images[split] += self._known_images.add(split.encode() + bytes.fromhex(digest))

    def lines(self, config: QuestionsConfig) -> list[str]:
        """The table, aligned, then the number of questions that are left out, and a line for each warning."""
        cells = [["split", "rows", "answers", "images"]]
        for split in SPLITS:
            counts = (self.rows[split], len(self._answers[split]), self._images[split])
            cells.append([split, *(f"{count:,}" for count in counts)])
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        left = widths.pop(0)
        table = [
            "  ".join([name.ljust(left), *(cell.rjust(width) for cell, width in zip(rest, widths, strict=True))])
            for name, *rest in cells
        ]
        if self._repeated:
            table.append(f"left out: {self._repeated:,}, each the same as an earlier question of its split")
        return [*table, *(f"warning: {warning}" for warning in self.warnings(config))]

    def warnings(self, config: QuestionsConfig) -> list[str]:
        """Splits that lack a common answer, and those far from the share of the drawn rows that they should have."""
        return [*self._missing_answers(), *self._wrong_shares(config)]

    def _missing_answers(self) -> Iterator[str]:
        everywhere = sum(self._answers.values(), Counter[str]())
        rows = max(1, self._labelled.total())
        for split in SPLITS:
            share = self._labelled[split] / rows
            missing = [
                f"{answer[:LONGEST]!r} (about {count * share:.0f})"
                for answer, count in everywhere.most_common()
                if answer not in self._answers[split] and count * share >= EXPECTED
            ]
            if missing:
                more = f" and {len(missing) - NAMED} more" if len(missing) > NAMED else ""
                yield (
                    f"split {split!r} lacks answers that are common (in brackets how often they would be expected):"
                    f" {', '.join(missing[:NAMED])}{more}"
                )

    def _wrong_shares(self, config: QuestionsConfig) -> Iterator[str]:
        drawn = self._drawn.total()
        if drawn < DRAWN:
            return
        for split, wanted in wanted_shares(config, self._named & set(HELD_OUT)).items():
            share = self._drawn[split] / drawn
            if abs(share - wanted) > TOLERANCE:
                yield (
                    f"split {split!r} has {share:.1%} of the {drawn:,} rows that name no split, {wanted:.1%} are"
                    " wanted; rows that share an image or a group stay together"
                )
