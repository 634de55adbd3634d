"""The rows of a published benchmark, as questions in a separate split and in the set's own columns."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from loop.config.known_datasets import KNOWN, KnownDataset
from loop.config.schema import Config
from loop.errors import InputError
from loop.questions.columns import ColumnRules, require_columns
from loop.questions.dataset_files import OpenSet, open_set, reading
from loop.questions.sources.dataset_images import image_content
from loop.reporting import Reporter
from store import Store
from store.image_decoding import read_image_size
from store.new_questions import NewQuestion, add_questions, question_with_hash
from store.questions import BENCHMARK

SOURCE = "benchmark"

_EXAMPLES = {
    "integer": "requiring an integer answer and provide the final value, e.g., 1, 2, 3",
    "list": "requiring a Python list as an answer and provide the final list, e.g., [1, 2, 3], [1.2, 1.3, 1.4]",
    1: "requiring a floating-point number with one decimal place and provide the final value, e.g., 1.2, 1.3, 1.4",
    2: "requiring a floating-point number with two decimal places and provide the final value, e.g., 1.23, 1.34, 1.45",
}
"""What MathVista asks for, by the answer's type or the places of a decimal fraction."""


@dataclass(frozen=True)
class BenchmarkRow:
    """One row: its number in the set, the id of its question in the store, its columns without images, its text."""

    number: int
    question: int
    columns: dict[str, Any]
    text: str


def _mathvista_text(row: dict[str, Any]) -> str:
    """The question as lmms-eval's `mathvista_testmini_cot` asks it: the set's own `query` has the hint first."""
    unit, choices = row.get("unit"), row["choices"] or []
    lines = [f"Question: {row['question']}" + (f" (Unit: {unit})" if unit else "")]
    lines += ["Choices:", *(f"({chr(ord('A') + n)}) {choice}" for n, choice in enumerate(choices))] if choices else []
    if row["question_type"] == "multi_choice":
        wanted = "and provide the correct option letter, e.g., A, B, C, D"
    else:
        form = row["answer_type"]
        wanted = _EXAMPLES.get(int(row["precision"] or 0) if form == "float" else form, "")
    return "\n".join([*lines, f"Hint: Please answer the question {wanted}, at the end."])


def _mmstar_text(row: dict[str, Any]) -> str:
    return str(row["question"]).strip().replace(" Please answer yes or no.", "")


TEXTS = {"mathvista": _mathvista_text, "mmstar": _mmstar_text}
"""Sets whose question is not one of their columns as it is."""


def benchmark_split(name: str) -> str:
    """The name of the split of a benchmark's questions in a run."""
    return f"{BENCHMARK}{name}"


def known_benchmark(name: str) -> KnownDataset:
    """Raises InputError for a name that is not known."""
    if name not in KNOWN:
        raise InputError(f"--benchmark {name}: is unknown; known: {', '.join(KNOWN)}")
    return KNOWN[name]


def store_benchmark(
    store: Store, config: Config, name: str, data: Path | None, limit: int | None, reporter: Reporter
) -> list[BenchmarkRow]:
    """Read the benchmark's test split and store its questions and images, all or none; returns its rows in order.

    `data` is a file or folder with the set, in place of the hub. Raises InputError that names row and column of a
    fault, or says how to get a set that is missing.
    """
    opened = open_set(
        str(data.resolve()) if data is not None else known_benchmark(name).benchmark.path, _name(name, data)
    )
    rows: list[tuple[int, dict[str, Any], str, str]] = []

    def read() -> Iterator[NewQuestion]:
        with reporter.bar(f"reading {name}", limit or 0, "row") as bar:
            for number, columns, question in islice(_rows(config, name, opened), limit):
                rows.append((number, columns, question.text, question.hash))
                yield question
                bar.update()

    add_questions(store, read())
    if not rows:
        raise InputError(f"{opened.path}: the benchmark has no rows")
    found = []
    for number, columns, text, digest in rows:
        stored = question_with_hash(store, digest)
        assert stored is not None
        found.append(BenchmarkRow(number, stored, columns, text))
    return found


def _name(name: str, data: Path | None) -> str | None:
    known = known_benchmark(name).benchmark
    # A file, and a folder of plain files, has one set; a folder as the hub has it names several.
    return known.name if data is None or (data.is_dir() and (data / "README.md").exists()) else None


def _rows(config: Config, name: str, opened: OpenSet) -> Iterator[tuple[int, dict[str, Any], NewQuestion]]:
    known = known_benchmark(name).benchmark
    wanted = known.splits["test"]
    split = wanted if wanted in opened.rows else next(iter(opened.rows)) if len(opened.rows) == 1 else None
    if split is None:
        raise InputError(f"{opened.path} has no split {wanted!r}; it has {', '.join(map(repr, opened.rows))}")
    columns = {part: value if isinstance(value, str) else list(value) for part, value in known.columns.items()}
    require_columns(columns, [], opened.columns[split], opened.path)
    rules = ColumnRules(columns, known.answer_after, opened.classes)
    most = config.questions.max_pixels
    for number, row in reading(opened.path, split, opened.rows[split]()):
        where = f"{opened.path}, split {split!r}, row {number}"
        parts = rules.parts(row, where)
        images = [image_content(value, opened.folder, f"{where}, column {column!r}") for column, value in parts.images]
        for image in images:
            width, height = read_image_size(image, where)
            if width * height > most:
                raise InputError(
                    f"{where}: an image of {width} x {height} has more than {most:,} pixels; raise questions.max_pixels"
                )
        question = NewQuestion(
            text=TEXTS[name](row) if name in TEXTS else parts.text,
            answers=parts.answers,
            images=images,
            split=benchmark_split(name),
            source=SOURCE,
            judge=known.choices_judge if parts.choices and known.choices_judge else known.judge,
            choices=parts.choices,
            external_id=parts.external_id or f"{split}:{number}",
            kind=parts.kind,
            where=where,
        )
        shown = {column for column, _ in parts.images} | {"image", "decoded_image"}
        yield number, {column: value for column, value in row.items() if column not in shown}, question
