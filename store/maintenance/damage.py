"""Signs of altered bytes: broken pages, texts that are not UTF-8, contents that do not match their hashes."""

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

from store.database import Store, as_json, connect
from store.errors import StoreDamagedError

Fault = str
"""One line: table, row, and what is wrong with it."""

Look = Callable[[Store], Iterator[Fault]]

MOST_OF_ONE_KIND = 100
"""Rows that are named per kind of fault; further ones are counted."""

TYPES = {"INTEGER": ("integer", "null"), "REAL": ("real", "null"), "TEXT": ("text", "null")}
"""Declared type -> the types of its values."""

JSON_COLUMNS = {
    "run": ("configuration", "packages"),
    "session": ("numerics",),
    "question": ("answers", "choices"),
    "policy": ("probe",),
    "training": ("recipe", "metrics"),
    "verdict": ("flags",),
    "evaluation": ("flags",),
    "evaluation_sample": ("flags",),
}


def find_damage(path: Path) -> Iterator[Fault]:
    """Every sign that the bytes of a store were altered. Changes nothing."""
    try:
        store = Store(connect(path, read_only=True), path)
    except Exception as error:
        yield f"store.db: cannot be opened: {error}"
        return
    with closing(store):
        for name, look in LOOKS.items():
            yield from guarded(name, look(store))


def guarded(what: str, faults: Iterator[Fault]) -> Iterator[Fault]:
    """The faults; if damage stops the search, the last one says so."""
    try:
        yield from limited(faults)
    except StoreDamagedError as error:
        yield f"store.db: {error.found} ({what})"
    except Exception as error:
        # Damaged bytes may cause any error, and the search continues with the next check.
        yield f"{what}: cannot be looked at to the end ({type(error).__name__}: {error})"


def limited(faults: Iterator[Fault]) -> Iterator[Fault]:
    """The first `MOST_OF_ONE_KIND` faults, and how many more there are."""
    count = 0
    for fault in faults:
        count += 1
        if count <= MOST_OF_ONE_KIND:
            yield fault
    if count > MOST_OF_ONE_KIND:
        yield f"... and {count - MOST_OF_ONE_KIND} more of this kind"


def _integrity(store: Store) -> Iterator[Fault]:
    for row in store.stream("PRAGMA integrity_check"):
        for line in str(row[0]).splitlines():
            if line != "ok" and not line.startswith("***"):
                yield f"store.db: {line}"


def _references(store: Store) -> Iterator[Fault]:
    for row in store.stream("PRAGMA foreign_key_check"):
        if row["table"] != "verdict":  # the table has no row numbers; `check` names its rows by their sample
            yield f"{row['table']} {row['rowid'] or '(a row)'}: refers to a row of {row['parent']} that is not there"


def _contents(store: Store) -> Iterator[Fault]:
    """Values of another type than their column's, texts that are not UTF-8, and invalid JSON."""
    for table in store.rows("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"):
        yield from guarded(f"table {table['name']}", _contents_of(store, table["name"]))


def _contents_of(store: Store, table: str) -> Iterator[Fault]:
    columns = {row["name"]: row["type"] for row in store.rows(f'PRAGMA table_info("{table}")')}
    typed = {name: TYPES[kind] for name, kind in columns.items() if kind in TYPES}
    for name, types in typed.items():
        if count := store.value(f'SELECT count(*) FROM "{table}" WHERE typeof("{name}") NOT IN {types}'):
            yield f"table {table}: {count} values of {name} are not {columns[name]}"
    texts = ", ".join(f'"{name}"' for name, kind in columns.items() if kind == "TEXT")
    if texts:
        for _ in store.connection.execute(f'SELECT {texts} FROM "{table}"'):
            pass  # a text that is not UTF-8 raises
    for name in JSON_COLUMNS.get(table, ()):
        written = f"""SELECT "{name}" FROM "{table}" WHERE "{name}" NOT IN ('[]', '{{}}', '')"""
        for (text,) in store.connection.execute(written):
            json.loads(text)


def _questions(store: Store) -> Iterator[Fault]:
    images = (
        "(SELECT json_group_array(image) FROM (SELECT image FROM question_image"
        " WHERE question = question.id ORDER BY position)) AS images"
    )
    for row in store.stream(f"SELECT question.*, {images} FROM question ORDER BY id"):
        content = [row["text"], json.loads(row["answers"]), row["judge"], row["split"], json.loads(row["images"])]
        if row["choices"] != "[]":
            content.append(json.loads(row["choices"]))
        if hashlib.sha256(as_json(content).encode()).hexdigest() != row["hash"]:
            yield f"question {row['id']}: text, answers, judge, split or images were altered since it was added"


def _images(store: Store) -> Iterator[Fault]:
    for row in store.stream("SELECT sha256, bytes FROM image"):
        if hashlib.sha256(row["bytes"]).hexdigest() != row["sha256"]:
            yield f"image {row['sha256']}: its bytes are not those of its hash"


LOOKS: dict[str, Look] = {
    "integrity": _integrity,
    "references": _references,
    "contents": _contents,
    "questions": _questions,
    "images": _images,
}
"""The cheapest first."""
