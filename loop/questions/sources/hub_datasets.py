"""Sets that `datasets` reads: of the hub, or Parquet, Arrow, JSON, CSV and image folders of this machine.

Rows are streamed: neither they nor their images are kept. The splits that `questions.splits` names for `test` and
`gate` come first. A later row that shares an image or a group with them is left out, and so is one without an image
that shares its text: published sets have such rows, and what is held out stays so. A split that is not named is drawn
from `train` by the rule of `loop/questions/splits.py`.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from difflib import get_close_matches
from itertools import islice

from judges import Judge, JudgeSpecError, find_judge
from loop.config.questions import QuestionsConfig
from loop.config.row_filter import FilterError, parse_filter
from loop.errors import InputError
from loop.questions.columns import ColumnRules, require_columns
from loop.questions.dataset_files import OpenSet, open_set, reading
from loop.questions.sources.dataset_images import image_content
from loop.questions.splits import HELD_OUT, Key, SplitRow, Splits, drawn_split
from loop.reporting import Reporter
from store.new_questions import NewQuestion

SOURCE = "datasets"
ORDER = ("test", "gate", "train")


def read_questions(config: QuestionsConfig, reporter: Reporter | None = None) -> Iterator[NewQuestion]:
    """Questions of `questions.path`; raises InputError naming split, row and column of what is wrong."""
    assert config.path is not None
    return _Reader(config, open_set(config.path, config.name), reporter).questions()


def first_questions(config: QuestionsConfig, count: int) -> list[NewQuestion]:
    """The first questions of each split that is named, to look at: nothing is drawn and nothing left out."""
    assert config.path is not None
    reader = _Reader(config, open_set(config.path, config.name), None)
    return [question for role in ORDER for question, _ in islice(reader.rows(role), count)]


class _Reader:
    """One pass, or two, over the splits of a set."""

    def __init__(self, config: QuestionsConfig, opened: OpenSet, reporter: Reporter | None) -> None:
        self._config, self._set, self._reporter = config, opened, reporter
        self._comparisons = [parse_filter(line) for line in config.filter]
        self._rules = ColumnRules(config.columns, config.answer_after, opened.classes)
        self._held: dict[bytes, str] = {}
        """What ties the rows of held-out splits to others, hashed -> their split."""
        self._filtered: Counter[str] = Counter()
        """Rows of each split that the filter left out in the latest pass."""
        _require_splits(config, opened)
        for split in config.splits.values():
            require_columns(config.columns, self._comparisons, opened.columns[split], opened.path)

    def questions(self) -> Iterator[NewQuestion]:
        """The questions of all splits, those of held-out splits first."""
        for role in ORDER:
            if role in HELD_OUT:
                for question, group in self._kept(role):
                    self._held.update((key, role) for key in _ties(question, group))
                    yield question
            else:
                yield from self._trained()

    def rows(self, role: str) -> Iterator[tuple[NewQuestion, str | None]]:
        """(question, its group) of each row of a split that the filter takes."""
        if role not in self._config.splits:
            return
        split = self._config.splits[role]
        self._filtered[role] = 0
        for index, row in reading(self._set.path, split, self._set.rows[split]()):
            where = f"{self._set.path}, split {split!r}, row {index}"
            try:
                taken = all(self._rules.holds(row, comparison) for comparison in self._comparisons)
            except FilterError as error:
                raise InputError(f"{where}: questions.filter: {error}") from error
            if not taken:
                self._filtered[role] += 1
            else:
                parts = self._rules.parts(row, where)
                yield (
                    NewQuestion(
                        text=parts.text,
                        answers=parts.answers,
                        images=[
                            image_content(value, self._set.folder, f"{where}, column {column!r}")
                            for column, value in parts.images
                        ],
                        split=role,
                        source=SOURCE,
                        judge=self._judge(parts.choices, parts.answers, where).name,
                        choices=parts.choices,
                        external_id=parts.external_id or f"{split}:{index}",
                        kind=parts.kind,
                        where=where,
                        image_column=parts.images[0][0] if parts.images else None,
                    ),
                    parts.group,
                )

    def _kept(self, role: str, *, told: bool = True) -> Iterator[tuple[NewQuestion, str | None]]:
        """The first `limit` rows of a split that share nothing with a split before it."""
        left_out, first = 0, ""
        kept = 0
        for question, group in self.rows(role):
            shared = next(
                (other for key in _ties(question, group) if (other := self._held.get(key, role)) != role), None
            )
            if shared is None:
                yield question, group
                kept += 1
                if kept == self._config.limit:
                    break
                continue
            left_out += 1
            first = first or f"{question.where}, which split {shared!r} has"
        if told and self._reporter is not None:
            if filtered := self._filtered[role]:
                self._reporter.say(f"{filtered:,} rows for split {role!r} are left out by questions.filter")
            if left_out:
                self._reporter.say(
                    f"{left_out} rows for split {role!r} are left out: they share an image, a group or a text with what"
                    f" is held out (first: {first})"
                )
        if not kept and role in self._config.splits:
            raise InputError(
                f"{self._set.path}, split {self._config.splits[role]!r}: no row is left; look at questions.filter and"
                " questions.splits"
            )

    def _trained(self) -> Iterator[NewQuestion]:
        """The rows of `train`, and those of it that become `gate` or `test` where no split is named for them."""
        closed = set(HELD_OUT) & self._config.splits.keys()
        if closed == set(HELD_OUT):
            yield from (question for question, _ in self._kept("train"))
            return
        splits = self._tied_rows(closed) if self._rows_are_tied() else None
        for question, group in self._kept("train", told=splits is None):
            row = _split_row(question, group)
            if splits is not None:
                split = splits.split_of(row)
            else:  # a row alone with its image, or without any, needs no other row to be placed
                key: Key = ("image", question.digests[0]) if question.images else ("text", row.text)
                split = drawn_split(key, self._config, closed)
            yield _placed(question, split)

    def _rows_are_tied(self) -> bool:
        """Whether rows of `train` may share more than one image or text with others."""
        split = self._config.splits["train"]
        _, first = next(reading(self._set.path, split, self._set.rows[split]()), (0, {}))
        return self._rules.ties_rows(first)

    def _tied_rows(self, closed: set[str]) -> Splits:
        splits = Splits(self._config)
        splits.closed.update(closed)
        bar = self._reporter.bar(f"reading {self._set.path}", 0, "row") if self._reporter else nullcontext()
        with bar as shown:
            for question, group in self._kept("train"):
                splits.add(_split_row(question, group))
                if shown:
                    shown.update()
        return splits

    def _judge(self, choices: Sequence[str], answers: Sequence[str], where: str) -> Judge:
        spec = self._config.choices_judge if choices and self._config.choices_judge else self._config.judge
        judge = find_judge(spec)
        try:
            judge.check_answers(answers)
        except JudgeSpecError as error:
            raise InputError(f"{where}: {error}") from error
        return judge


def _require_splits(config: QuestionsConfig, opened: OpenSet) -> None:
    for role, split in config.splits.items():
        if split not in opened.rows:
            near = get_close_matches(split, opened.rows, 1)
            meant = f"did you mean {near[0]!r}? it" if near else "it"
            raise InputError(
                f"questions.splits.{role}: {opened.path} has no split {split!r}; {meant} has"
                f" {', '.join(map(repr, opened.rows))}"
            )


def _ties(question: NewQuestion, group: str | None) -> list[bytes]:
    """Hashes of what ties a row to a split: its images and its group, or its text if it has neither."""
    ties = [*question.digests, *([] if group is None else [f"group {group}"])] or [f"text {_text(question)}"]
    return [hashlib.sha256(tie.encode()).digest()[:16] for tie in ties]


def _text(question: NewQuestion) -> str:
    """The text that tells a question from others: some sets ask the same of other choices."""
    return json.dumps([question.text, *question.choices]) if question.choices else question.text


def _split_row(question: NewQuestion, group: str | None) -> SplitRow:
    return SplitRow(question.where, _text(question), question.digests, group)


def _placed(question: NewQuestion, split: str) -> NewQuestion:
    return replace(question, split=split, split_from="draw")
