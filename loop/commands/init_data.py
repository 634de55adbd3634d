"""`init`, the data: which source it is, its columns and splits, and the judge of its answers."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import click

from loop.config.dataset_keys import PARTS, Columns, is_hub_name
from loop.config.known_datasets import KNOWN
from loop.config.load import parse_config
from loop.config.questions import QuestionsConfig
from loop.errors import InputError
from loop.evaluation.predictions import parse_judge
from loop.planning.proposal import Setting
from loop.questions.columns import column_value
from loop.questions.dataset_files import OpenSet, open_set
from loop.questions.guess_columns import (
    LOOKED_AT,
    Guess,
    JudgeGuess,
    first_rows,
    guess_columns,
    guess_judge,
    guess_splits,
)
from loop.questions.sources import jsonl
from loop.questions.sources.hub_datasets import first_questions
from loop.terminal.escape import one_line

SHOWN_VALUE = 60
"""Characters of a value that is shown beside its column."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class DataWishes:
    """The user's options about the data. `columns` and `splits` are texts PART=COLUMN and SPLIT=NAME."""

    data: str
    name: str | None
    columns: Sequence[str]
    splits: Sequence[str]
    judge: str | None
    limit: int | None


@dataclass(frozen=True)
class Described:
    """The table `questions` with its reasons, its resolved values, and a published set's own prompt."""

    settings: dict[str, Setting]
    config: QuestionsConfig
    prompt: str | None = None


def describe_data(wishes: DataWishes, say: Say, *, asks: bool) -> Described:
    """Find the data and describe it; raises InputError, which names the option to add, if a part cannot be guessed."""
    if wishes.judge is not None:
        parse_judge(wishes.judge)
    local = Path(wishes.data).expanduser()
    if local.exists():
        path = str(local.resolve())
        return _own_rows(wishes, path) if _is_own_format(local) else _columns_of(wishes, path, say, asks=asks)
    if wishes.data in KNOWN:
        return _published(wishes, say)
    if is_hub_name(wishes.data):
        return _columns_of(wishes, wishes.data, say, asks=asks)
    raise InputError(f"--data {wishes.data}: there is no such file or folder, and no set of that name")


def _own_rows(wishes: DataWishes, path: str) -> Described:
    """Describe a JSONL file in this project's own format; only the judge has to be guessed."""
    keys: dict[str, Any] = {"source": "jsonl", "path": path}
    looked_at = list(islice(jsonl.read_questions(_resolved({**keys, "judge": wishes.judge or "exact"})), LOOKED_AT))
    guess = _judge(wishes, guess_judge([each for each in looked_at if each.answers] or looked_at))
    settings = {
        "source": Setting("jsonl", "the rows are in this project's own format"),
        "path": Setting(path),
        "judge": Setting(guess.judge, f"{guess.why}; rows may name another"),
    }
    return Described(settings, _resolved({**keys, "judge": guess.judge}))


def _published(wishes: DataWishes, say: Say) -> Described:
    known = KNOWN[wishes.data]
    keys = {"source": "datasets", "dataset": wishes.data, **_given(wishes)}
    config = _resolved(keys)
    say(f"{known.title}: {config.path} on the hub, judge {config.judge}")
    settings = {key: Setting(value) for key, value in keys.items()}
    settings["dataset"] = Setting(wishes.data, f"{known.title}; fills in path, splits, columns and judge")
    return Described(settings, config, known.prompt)


def _columns_of(wishes: DataWishes, path: str, say: Say, *, asks: bool) -> Described:
    """Describe any other set: columns and splits by the user's options, else guessed from names and first rows."""
    opened = open_set(path, wishes.name)
    splits = _pairs(wishes.splits, "--split")
    train = str(splits.get("train") or guess_splits(opened, Guess({}))["train"])
    if train not in opened.rows:
        raise InputError(f"--split train={train}: {path} has no such split; it has {', '.join(opened.rows)}")
    guess = guess_columns(opened, train)
    columns = _agreed(opened, train, _laid_over(guess.columns, wishes.columns), asks=asks)
    after = guess.answer_after if columns.get("answer") == guess.columns.get("answer") else None
    keys: dict[str, Any] = {
        "source": "datasets",
        "path": path,
        "splits": {"train": train, **splits} if splits else guess_splits(opened, Guess(columns)),
        "columns": columns,
        **({} if after is None else {"answer_after": after}),
        **_given(wishes),
    }
    found = _judge(wishes, guess_judge(first_questions(_resolved(keys), LOOKED_AT)))
    keys["judge"] = found.judge
    if found.choices_judge is not None:
        keys["choices_judge"] = found.choices_judge
    reasons = {"judge": found.why, "columns": f"columns of the set: {', '.join(opened.columns[train])}"}
    if not splits and set(keys["splits"]) != {"train", "gate", "test"}:
        reasons["splits"] = "what is not named is drawn from train"
    for part, value in columns.items():
        say(f"{part}: {_told(value)}{_example(opened, train, value)}")
    say(f"splits: {', '.join(f'{role} from {name}' for role, name in keys['splits'].items())}")
    say(f"judge {found.judge}: {found.why}")
    return Described({key: Setting(value, reasons.get(key, "")) for key, value in keys.items()}, _resolved(keys))


def _agreed(opened: OpenSet, split: str, columns: Columns, *, asks: bool) -> Columns:
    """The guessed columns, changed by the user's answers; question and answer must be among them."""
    there = ", ".join(opened.columns[split])
    if asks:
        click.echo(f"columns: {one_line(there)}")
        for part in ("question", "answer", "images", "choices", "kind"):
            if part == "answer" and "answer_index" in columns:
                continue
            value = columns.get(part, "-")
            said = click.prompt(f"  {part} (- for none)", default=value if isinstance(value, str) else "\n".join(value))
            lines = said.split("\n")
            columns = {name: each for name, each in columns.items() if name != part}
            if said != "-":
                columns[part] = lines if len(lines) > 1 or isinstance(value, list) else said
    missing = [] if "question" in columns else ["question"]
    if "answer" not in columns and "answer_index" not in columns:
        missing.append("answer")
    if missing:
        options = " ".join(f"--column {part}=COLUMN" for part in missing)
        raise InputError(f"no column looks like the {' or the '.join(missing)}: add {options}; there are {there}")
    return columns


def _laid_over(columns: Columns, given: Sequence[str]) -> Columns:
    """The guess, replaced by the user's own columns; a part that is named several times has several lines."""
    own = _pairs(given, "--column")
    if unknown := sorted(own.keys() - set(PARTS)):
        raise InputError(f"--column {unknown[0]}=...: no part of a question; known: {', '.join(PARTS)}")
    merged = {**columns, **own}
    for part, other in (("answer", "answer_index"), ("answer_index", "answer")):
        if part in own:
            merged.pop(other, None)
    return merged


def _pairs(given: Sequence[str], option: str) -> Columns:
    found: dict[str, list[str]] = {}
    for text in given:
        key, equals, value = text.partition("=")
        if not equals or not key.strip() or not value.strip():
            raise InputError(f"{option} {text}: write it as {option} NAME=VALUE")
        found.setdefault(key.strip(), []).append(value)
    return {key: values[0] if len(values) == 1 else values for key, values in found.items()}


def _given(wishes: DataWishes) -> dict[str, Any]:
    """Keys whose values the user gives as options."""
    given = {"name": wishes.name, "limit": wishes.limit, "judge": wishes.judge}
    return {key: value for key, value in given.items() if value is not None}


def _judge(wishes: DataWishes, guess: JudgeGuess) -> JudgeGuess:
    return guess if wishes.judge is None else JudgeGuess(wishes.judge, "as you named it")


def _resolved(keys: dict[str, Any]) -> QuestionsConfig:
    tables = {"policy": {"model": "-"}, "teacher": {"enabled": False}, "questions": keys}
    return parse_config(tables, "--data").questions


def _told(value: str | list[str]) -> str:
    return repr(value) if isinstance(value, str) else " / ".join(map(repr, value))


def _example(opened: OpenSet, split: str, value: str | list[str]) -> str:
    """The value of a column in the first row, as words for the user; empty if it has no short text."""
    rows = first_rows(opened, split, 1)
    if not rows or not isinstance(value, str) or "{" in value:
        return ""
    shown = column_value(rows[0], value)
    if isinstance(shown, dict | bytes):
        return ""
    return f", in the first row {one_line(repr(shown), SHOWN_VALUE)}"


def _is_own_format(path: Path) -> bool:
    """Whether a JSONL file's first row is one of `loop/questions/sources/jsonl.py`."""
    if path.suffix != ".jsonl":
        return False
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        line = next((line for line in file if line.strip()), "")
    try:
        row = json.loads(line)
    except ValueError:
        return False
    if not isinstance(row, dict) or row.keys() - jsonl.KEYS or "question" not in row:
        return False
    images = row.get("images", [])
    return isinstance(images, list) and bool(row.keys() & {"answer", "answers", "candidates"})
