"""Your own questions: a JSON object a line, images by path relative to the file.

`{"question", "answer" or "answers", "images": [...], "choices"?, "judge"?, "kind"?, "id"?, "split"?, "group"?}`. A row
with `candidates` is a preference, asked in both orders (`loop/questions/preferences.py`). Rows
without a split are held out by their group or images, else by their text (`loop/questions/splits.py`): `test` is what
accuracies are reported on, `gate` what the gate decides by. `kind` groups the accuracies.
Where the recipe sets `questions.unlabelled`, a row may have no answer; it is never held out.
"""

import json
from collections.abc import Collection, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from judges import Judge, JudgeSpecError, find_judge
from loop.config.schema import QuestionsConfig
from loop.errors import InputError
from loop.questions import preferences
from loop.questions.lines import Lines
from loop.questions.splits import SPLITS, Key, SplitRow, Splits, strictest
from loop.reporting import Reporter
from store import Store
from store.questions import NewQuestion, SplitFrom, splits_of_image, splits_of_question, splits_of_text

SOURCE = "jsonl"
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


@dataclass(frozen=True)
class _Row:
    """A row as the file has it; its split is not decided yet. A preference has a question for each order.

    `text` is what the row asks about, without candidates: rows that share it, and no image, stay together.
    """

    questions: tuple[NewQuestion, ...]
    text: str
    split: str | None
    group: str | None


def read_questions(config: QuestionsConfig, reporter: Reporter | None = None) -> Iterator[NewQuestion]:
    """Questions of `questions.path`; raises InputError naming the line of a bad row."""
    assert config.path is not None
    return read_file(Path(config.path), config, reporter)


def read_file(
    path: Path, config: QuestionsConfig, reporter: Reporter | None = None, store: Store | None = None
) -> Iterator[NewQuestion]:
    """Questions of one file. An empty line is skipped; anything else must be a whole row.

    All rows are read first, to find out which stay together, and then again one by one: neither they nor their images
    are kept. A `store` is the run that the rows will be added to: what it has keeps its split.
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
            splits.add(_split_row(row, stored.get(number)))
            if bar:
                bar.update()

    def questions(number: int, line: str) -> list[NewQuestion]:
        row = _row(line, path, number, config)
        if store and row.group is not None and splits.is_drawn(_split_row(row, stored.get(number))):
            raise InputError(
                f"{path}, line {number}: a run does not keep groups; add the group's earlier rows too, or give the row"
                " a 'split'"
            )
        split_from: SplitFrom = "source" if row.split else "run" if number in stored else "draw"
        split = splits.split_of(_split_row(row, stored.get(number)))
        return [replace(each, split=split, split_from=split_from) for each in row.questions]

    return (each for number, line in lines for each in questions(number, line))


def _stored_split(store: Store, row: _Row) -> str | None:
    """The split in which the run has the row's question."""
    found = splits_of_question(store, row.questions[0], SPLITS)
    return row.split if row.split in found else strictest(found)


def _split_row(row: _Row, stored: str | None) -> SplitRow:
    question = row.questions[0]
    return SplitRow(
        where=question.where,
        # Multiple-choice questions often share their text and differ in their choices.
        text=json.dumps([row.text, *question.choices]) if question.choices else row.text,
        images=question.digests,
        group=row.group,
        split=row.split,
        stored=stored,
        labelled=bool(question.answers),
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
    if unknown := sorted(row.keys() - KEYS):
        raise InputError(f"{where}: unknown key {unknown[0]!r}; known: {', '.join(sorted(KEYS))}")
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
    external_id = row.get("id")
    common = {
        "split": "",
        "source": SOURCE,
        "external_id": None if external_id is None else str(external_id),
        "where": where,
        "kind": kind,
    }
    if "candidates" in row:
        questions = _preference(row, path, where, config, common)
    else:
        questions = (_question(row, path, where, config, common),)
    return _Row(questions, text, split, _group(row, where))


def _question(
    row: dict[str, Any], path: Path, where: str, config: QuestionsConfig, common: dict[str, Any]
) -> NewQuestion:
    if lost := sorted(row.keys() & preferences.KEYS):
        raise InputError(f"{where}: {lost[0]!r} belongs to a row with 'candidates'")
    unlabelled = config.unlabelled and "answer" not in row and "answers" not in row
    answers = [] if unlabelled else _answers(row, where)
    choices = row.get("choices", [])
    if not isinstance(choices, list) or not all(isinstance(each, str) and each.strip() for each in choices):
        raise InputError(f"{where}: 'choices' must be a list of texts that are not empty")
    if unlabelled and row.get("split") not in (None, "train"):
        raise InputError(f"{where}: a held-out question needs an answer")
    return NewQuestion(
        text=row["question"],
        answers=answers,
        images=[read_image(path.parent, name, where) for name in row.get("images", [])],
        judge=_judge(row, answers, where, config).name,
        choices=choices,
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
