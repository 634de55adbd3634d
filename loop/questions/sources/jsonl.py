"""Your own questions: one JSON object per line, images by path relative to the file.

`{"question", "answer" or "answers", "images": [...], "choices"?, "judge"?, "kind"?, "id"?, "split"?, "group"?}`. A row
with `candidates` is a preference, asked in both orders (`loop/questions/preferences.py`). Rows
without a split are held out by their group or images, else by their text (`loop/questions/splits.py`): `test` is what
accuracies are reported on, `gate` what the gate decides by. `kind` groups the accuracies.
Where the recipe sets `questions.unlabelled`, a row may have no answer; it is never held out.
"""

import json
from collections.abc import Collection, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from judges import Judge, JudgeSpecError, find_judge
from loop.config.questions import QuestionsConfig
from loop.errors import InputError
from loop.questions import preferences
from loop.questions.lines import Lines
from loop.questions.splits import SPLITS, Key, SplitRow, Splits, strictest
from loop.reporting import Reporter
from store import Store
from store.new_questions import NewQuestion, SplitFrom, splits_of_question
from store.questions import splits_of_image, splits_of_text

SOURCE = "jsonl"
ANSWERED = {"answer", "answers", "better"}
"""Keys of an accepted answer."""

KEYS = {
    "question",
    "answer",
    "answers",
    "choices",
    "images",
    "judge",
    "kind",
    "id",
    "split",
    "group",
} | preferences.KEYS


class _Row(NamedTuple):
    """A row whose question, split and names of images are checked; `questions` checks the rest.

    A preference has a question for each order. `text` is what the row asks about, without candidates: rows that share
    it, and no image, stay together.
    """

    values: dict[str, Any]
    path: Path
    where: str
    config: QuestionsConfig
    text: str
    split: str | None

    @property
    def group(self) -> str | None:
        """The name of its group."""
        return _group(self.values, self.where) if "group" in self.values else None

    @property
    def has_images(self) -> bool:
        """Whether it names images, of its own or of its candidates."""
        return "images" in self.values or "candidate_images" in self.values

    def questions(self, split: str = "", split_from: SplitFrom = "draw") -> tuple[NewQuestion, ...]:
        """Its questions, checked, with their images. Raises InputError naming the row."""
        external_id = self.values.get("id")
        common = {
            "split": split,
            "split_from": split_from,
            "source": SOURCE,
            "external_id": None if external_id is None else str(external_id),
            "where": self.where,
            "kind": self.values.get("kind"),
        }
        if "candidates" in self.values:
            return _preference(self.values, self.path, self.where, self.config, common)
        return (_question(self.values, self.path, self.where, self.config, common),)


def read_questions(config: QuestionsConfig, reporter: Reporter | None = None) -> Iterator[NewQuestion]:
    """Questions of `questions.path`; raises InputError naming the line of a bad row."""
    assert config.path is not None
    return read_file(Path(config.path), config, reporter)


def read_file(
    path: Path, config: QuestionsConfig, reporter: Reporter | None = None, store: Store | None = None
) -> Iterator[NewQuestion]:
    """Questions of one file. An empty line is skipped; anything else must be a whole row.

    All rows are read first, to find out which stay together, and then again one by one: neither they nor their images
    are kept. Answers and judges of rows without images are checked the second time. A `store` is the run that the rows
    will be added to: what it has keeps its split.
    """
    lines = Lines(path)
    if not lines.count:
        raise InputError(f"{path} holds no questions; write one JSON object a line")

    stored: dict[int, str] = {}
    splits = Splits(config, lambda key: _splits_in(store, key) if store else ())
    with reporter.bar(f"reading {path.name}", lines.count, "row") if reporter else nullcontext() as bar:
        for number, line in lines:
            row = _row(line, path, number, config)
            if store and (split := _stored_split(store, row)):
                stored[number] = split
            splits.add(_split_row(row, _with_images(row), stored.get(number)))
            if bar:
                bar.update()

    def questions(number: int, line: str) -> Sequence[NewQuestion]:
        row = _row(line, path, number, config)
        asked = _with_images(row)
        to_split = _split_row(row, asked, stored.get(number))
        if store and row.group is not None and splits.is_drawn(to_split):
            raise InputError(
                f"{path}, line {number}: a run does not keep groups; add the group's earlier rows too, or give the row"
                " a 'split'"
            )
        if asked is None and not to_split.labelled:
            row.questions()  # that an answer is missing comes before what follows from it
        split_from: SplitFrom = "source" if row.split else "run" if number in stored else "draw"
        split = splits.split_of(to_split)
        if asked is None:
            return row.questions(split, split_from)
        return [replace(each, split=split, split_from=split_from) for each in asked]

    return (each for number, line in lines for each in questions(number, line))


def _stored_split(store: Store, row: _Row) -> str | None:
    """The split in which the run has the row's question."""
    found = splits_of_question(store, row.questions()[0], SPLITS)
    return row.split if row.split in found else strictest(found)


def _with_images(row: _Row) -> tuple[NewQuestion, ...] | None:
    """The questions of a row with images, which are read once; None for a row without."""
    return row.questions() if row.has_images else None


def _split_row(row: _Row, asked: Sequence[NewQuestion] | None, stored: str | None) -> SplitRow:
    choices = None if "candidates" in row.values else row.values.get("choices")
    return SplitRow(
        where=row.where,
        # Multiple-choice questions often share their text and differ in their choices.
        text=json.dumps([row.text, *choices]) if choices else row.text,
        images=asked[0].digests if asked else (),
        group=row.group,
        split=row.split,
        stored=stored,
        labelled=not ANSWERED.isdisjoint(row.values),
    )


def _splits_in(store: Store, key: Key) -> Collection[str]:
    kind, value = key
    if kind == "group":
        return ()
    return splits_of_image(store, value) if kind == "image" else splits_of_text(store, value)


def _row(line: str, path: Path, number: int, config: QuestionsConfig) -> _Row:
    where = f"{path}, line {number}"
    try:
        row = json.loads(line)
        if "\\u" in line:  # a text of the file itself has no such half
            json.dumps(row, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise InputError(f"{where}: holds half of a surrogate pair (\\ud800 to \\udfff), which is no text") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: not JSON ({error})") from error
    if not isinstance(row, dict):
        raise InputError(f"{where}: must be a JSON object")
    if not row.keys() <= KEYS:
        unknown = min(row.keys() - KEYS)
        raise InputError(f"{where}: unknown key {unknown!r}; known: {', '.join(sorted(KEYS))}")
    text = row.get("question")
    if not isinstance(text, str) or not text.strip():
        raise InputError(f"{where}: 'question' must be a text that is not empty")
    names = row.get("images", [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InputError(f"{where}: 'images' must be a list of paths")
    split = row.get("split")
    if "split" in row and split not in SPLITS:
        raise InputError(f"{where}: 'split' must be one of {', '.join(SPLITS)}, not {split!r}")
    kind = row.get("kind")
    if kind is not None and (not isinstance(kind, str) or not kind.strip()):
        raise InputError(f"{where}: 'kind' must be a text that is not empty")
    if "choices" in row and "candidates" not in row:
        _check_choices(row["choices"], where)
    return _Row(row, path, where, config, text, split)


def _check_choices(choices: Any, where: str) -> None:
    if not isinstance(choices, list) or not all(isinstance(each, str) and each.strip() for each in choices):
        raise InputError(f"{where}: 'choices' must be a list of texts that are not empty")


def _question(
    row: dict[str, Any], path: Path, where: str, config: QuestionsConfig, common: dict[str, Any]
) -> NewQuestion:
    if not preferences.KEYS.isdisjoint(row):
        lost = min(row.keys() & preferences.KEYS)
        raise InputError(f"{where}: {lost!r} belongs to a row with 'candidates'")
    unlabelled = config.unlabelled and "answer" not in row and "answers" not in row
    answers = [] if unlabelled else _answers(row, where)
    if unlabelled and row.get("split") not in (None, "train"):
        raise InputError(f"{where}: a held-out question needs an answer")
    return NewQuestion(
        text=row["question"],
        answers=answers,
        images=[read_image(path.parent, name, where) for name in row.get("images", [])],
        judge=_judge(row, answers, where, config).name,
        choices=row.get("choices", []),
        **common,
    )


def _preference(
    row: dict[str, Any], path: Path, where: str, config: QuestionsConfig, common: dict[str, Any]
) -> tuple[NewQuestion, ...]:
    """Both orders of a row with candidates, as one unit; `task` is its kind where it names none."""
    task = row.get("task")
    if task is not None and (not isinstance(task, str) or not task.strip()):
        raise InputError(f"{where}: 'task' must be a text that is not empty")
    if row.get("judge", preferences.JUDGE) != preferences.JUDGE:
        raise InputError(f"{where}: a row with 'candidates' is judged by 'preference'; leave 'judge' out")
    found = preferences.read_preference(row, where, lambda name: read_image(path.parent, name, where))
    return tuple(
        NewQuestion(
            text=each.text,
            answers=[each.answer],
            images=each.images,
            judge=preferences.JUDGE,
            unit=found.unit,
            **{**common, "kind": common["kind"] or task},
        )
        for each in found.in_both_orders(config.preference_layout)
    )


def _group(row: dict[str, Any], where: str) -> str | None:
    group = row.get("group")
    if group is None:
        return None
    if isinstance(group, bool) or not isinstance(group, str | int | float) or not str(group).strip():
        raise InputError(f"{where}: 'group' must be a text that is not empty, or a number")
    return str(group)


def _judge(row: dict[str, Any], answers: list[str], where: str, config: QuestionsConfig) -> Judge:
    """The row's judge; only the recipe may name one that runs code (`python`): a row is data."""
    spec = row.get("judge", config.judge)
    if not isinstance(spec, str):
        raise InputError(f"{where}: 'judge' must be a text")
    if spec.strip().startswith("python") and spec != config.judge:
        raise InputError(f"{where}: judge 'python' runs code of yours; name it in the recipe (questions.judge)")
    try:
        judge = find_judge(spec)
        if answers:
            judge.check_answers(answers)
    except JudgeSpecError as error:
        raise InputError(f"{where}: {error}") from error
    return judge


def _answers(row: dict[str, Any], where: str) -> list[str]:
    if ("answer" in row) == ("answers" in row):
        raise InputError(f"{where}: needs 'answer' (one) or 'answers' (a list), and not both")
    answers = row["answers"] if "answers" in row else [row["answer"]]
    if not isinstance(answers, list) or not answers:
        raise InputError(f"{where}: 'answers' must be a list with at least one answer")
    texts = [str(a) if isinstance(a, int | float) and not isinstance(a, bool) else a for a in answers]
    if not all(isinstance(a, str) and a.strip() for a in texts):
        raise InputError(f"{where}: every answer must be a text or number that is not empty")
    return texts


def read_image(folder: Path, name: str, where: str) -> bytes:
    """The bytes of an image file under the folder; raises InputError if it lies elsewhere or cannot be read."""
    root = folder.resolve()
    try:
        path = (root / name).resolve()
        if not path.is_relative_to(root):
            raise InputError(f"{where}: image {name!r} lies outside {root}; keep images beside the file")
        if path.exists() and not path.is_file():  # a pipe would be waited for without end
            raise InputError(f"{where}: image {name!r} is no regular file")
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{where}: image {name!r} cannot be read ({error.strerror})") from error
    except (ValueError, RuntimeError) as error:  # a NUL or a lone surrogate in the name, links in a circle
        raise InputError(f"{where}: image {name!r} cannot be read ({error})") from error
