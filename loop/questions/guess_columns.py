"""Guesses the roles of a data set's columns and splits, from names and some rows; the user confirms them."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from judges.numeric import parse_number
from loop.config.dataset_keys import Columns
from loop.errors import InputError
from loop.questions.columns import BOXED, ColumnRules, column_value
from loop.questions.dataset_files import OpenSet, reading
from store.new_questions import NewQuestion

LOOKED_AT = 200
"""Rows that a judge is chosen by; columns are guessed from the first ten."""

FIRST = 10
ANNOTATORS = 5
"""From so many answers on a list is taken for the answers of several people, each of which counts."""

NAMES: Mapping[str, Sequence[str]] = {
    "question": ("question", "query", "problem", "prompt", "instruction", "input", "text"),
    "choices": ("choices", "options", "answer_choices", "candidates"),
    "answer": (
        *("answer", "answers", "label", "labels", "target", "gt_answer", "ground_truth", "solution"),
        *("correct_choice_idx", "answer_index", "answer_idx", "correct_answer", "output", "response"),
    ),
    "id": ("id", "question_id", "questionid", "qid", "pid", "uid", "unique_id"),
    "kind": ("kind", "type", "category", "question_type", "subject", "task"),
    "group": ("group", "document_id", "docid"),
}
IMAGES = ("image", "images", "decoded_image", "img", "picture", "photo", "image_path", "file_name")
PICTURE = re.compile(rb"\x89PNG|\xff\xd8\xff|GIF8|RIFF....WEBP|BM|II\*\x00|MM\x00\*", re.DOTALL)
PICTURE_FILE = re.compile(r".+\.(png|jpe?g|gif|webp|bmp|tiff?)$", re.IGNORECASE)
LATEX = re.compile(r"\\[a-zA-Z]+|[_^]\{?|\$")
HELD_OUT_NAMES = ("validation", "val", "dev", "valid", "eval", "testmini")


@dataclass(frozen=True)
class Guess:
    """Guessed keys of `[questions]`; `columns` has only the parts that were found."""

    columns: Columns
    answer_after: str | None = None


@dataclass(frozen=True)
class JudgeGuess:
    """A judge, and the reason of its choice."""

    judge: str
    why: str
    choices_judge: str | None = field(default=None)


def first_rows(opened: OpenSet, split: str, count: int = FIRST) -> list[dict[str, Any]]:
    """The first rows of a split."""
    return [row for _, row in islice(reading(opened.path, split, opened.rows[split]()), count)]


def guess_columns(opened: OpenSet, split: str) -> Guess:
    """Guess which columns of a split hold the question, the answer and the other parts."""
    there, rows = opened.columns[split], first_rows(opened, split)
    columns: Columns = {}
    for part, names in NAMES.items():
        if (name := _named(there, names)) is not None:
            columns[part] = name
    if images := _images(there, rows):
        columns["images"] = images
    _settle_choices(columns, rows)
    asked, choices = columns.get("question"), columns.get("choices")
    if isinstance(asked, str) and isinstance(choices, str) and not _spelled_out(rows, asked, choices):
        columns["question"] = [f"{{{asked}}}", f"{{{choices}}}"]
    answer = columns.get("answer")
    return Guess(columns, _answer_after(rows, answer) if isinstance(answer, str) else None)


def guess_splits(opened: OpenSet, guess: Guess) -> dict[str, str]:
    """Choose the set's splits for training and for held-out questions, among those that have answers."""
    there = list(opened.rows)
    train = next((name for name in there if name.startswith("train")), there[0])
    splits = {"train": train}
    second = next((name for name in there if name in HELD_OUT_NAMES and name != train), None)
    if "test" in there and train != "test" and _has_answers(opened, "test", guess):
        splits["test"] = "test"
        if second is not None and _has_answers(opened, second, guess):
            splits["gate"] = second
    elif second is not None and _has_answers(opened, second, guess):
        splits["test"] = second
    return splits


def guess_judge(questions: Sequence[NewQuestion]) -> JudgeGuess:
    """Choose a judge that suits the accepted answers; `questions` has at least one."""
    with_choices = [question for question in questions if question.choices]
    others = [question for question in questions if not question.choices]
    if with_choices and not others:
        return JudgeGuess("choice", "every row has choices")
    found = _by_answers(others)
    if with_choices:
        return JudgeGuess(found.judge, f"{found.why}; rows with choices have judge choice", "choice")
    return found


def _by_answers(questions: Sequence[NewQuestion]) -> JudgeGuess:
    answers = [answer for question in questions for answer in question.answers]
    if all(len(question.answers) >= ANNOTATORS for question in questions):
        return JudgeGuess("textvqa", f"every row has the answers of {ANNOTATORS} people or more")
    if all(re.fullmatch(r"[A-Z]", answer) for answer in answers):
        return JudgeGuess("choice", "every answer is a capital letter")
    if all(parse_number(answer) is not None for answer in answers):
        return JudgeGuess("numeric", "every answer is a number")
    if any(LATEX.search(answer) for answer in answers):
        return JudgeGuess("math", "there are formulas among the answers")
    if max(len(answer.split()) for answer in answers) > ANNOTATORS:
        return JudgeGuess("anls", "some answers have several words, which a judge should not want to the letter")
    return JudgeGuess("exact", "the answers are short texts")


def _named(there: Sequence[str], names: Sequence[str]) -> str | None:
    folded = {name.casefold(): name for name in there}
    return next((folded[name] for name in names if name in folded), None)


def _images(there: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> str | list[str] | None:
    """The columns that hold images; of several, the one with a usual name, else all."""
    found = [name for name in there if any(_is_image(row.get(name)) for row in rows)]
    named = _named(found, IMAGES)
    if named is not None or not found:
        return named
    return found[0] if len(found) == 1 else found


def _is_image(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return bool(value) and _is_image(value[0])
    if isinstance(value, dict):
        return {"bytes", "path"} <= value.keys() and (value["bytes"] or value["path"]) is not None
    if isinstance(value, bytes):
        return PICTURE.match(value) is not None
    return isinstance(value, str) and (value.startswith("data:image/") or PICTURE_FILE.fullmatch(value) is not None)


def _settle_choices(columns: Columns, rows: Sequence[Mapping[str, Any]]) -> None:
    """Keep choices only if they are lists; an answer that is a number from 0 becomes `answer_index`."""
    name, answer = columns.get("choices"), columns.get("answer")
    lists = [row.get(str(name)) for row in rows]
    if name is None or not any(isinstance(each, list) and each for each in lists):
        columns.pop("choices", None)
        return
    values = [row.get(str(answer)) for row in rows]
    if answer is not None and all(_counts(value, each) for value, each in zip(values, lists, strict=True)):
        columns["answer_index"] = columns.pop("answer")


def _counts(value: Any, choices: Any) -> bool:
    number = int(value) if isinstance(value, str) and value.isdecimal() else value
    return isinstance(number, int) and not isinstance(number, bool) and -1 <= number < len(choices or ())


def _spelled_out(rows: Sequence[Mapping[str, Any]], question: str, choices: str) -> bool:
    """Whether the texts of the questions already contain their choices."""
    return all(
        str(choice) in str(column_value(row, question)) for row in rows for choice in column_value(row, choices) or ()
    )


def _answer_after(rows: Sequence[Mapping[str, Any]], column: str) -> str | None:
    texts = [value for row in rows if isinstance(value := column_value(row, column), str)]
    return next((mark for mark in ("####", BOXED) if texts and all(mark in text for text in texts)), None)


def _has_answers(opened: OpenSet, split: str, guess: Guess) -> bool:
    rules = ColumnRules({"question": ["?"], **_only_answers(guess.columns)}, None, opened.classes)
    rows = first_rows(opened, split, 1)
    try:
        return bool(rows) and bool(rules.parts(rows[0], "").answers)
    except InputError:
        return False


def _only_answers(columns: Columns) -> Columns:
    return {part: columns[part] for part in ("answer", "answer_index", "choices") if part in columns}
