"""Export of pairs and samples to files that TRL and `datasets` read directly: JSONL or Parquet, with images."""

import base64
import json
import os
import sqlite3
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

from loop.config.schema import Config
from loop.errors import InputError
from loop.reporting import Reporter
from store import Store
from store.maintenance.archive import round_samples
from store.questions import Question, find_questions, image_bytes

Row = dict[str, Any]
Columns = dict[str, str]
"""Column -> kind: text, integer, number, texts, messages or images."""

ROWS_PER_GROUP = 1000
CACHED_QUESTIONS = 4096

SIDES = ("chosen", "rejected")
SIDE_COLUMNS: Columns = {
    "sample": "integer",
    "author": "text",
    "policy": "integer",
    "weights": "text",
    "seed": "integer",
    "outcome": "text",
    "answer": "text",
    "judge": "text",
    "judge_version": "text",
}
PAIR_COLUMNS: Columns = {
    "prompt": "messages",
    "chosen": "messages",
    "rejected": "messages",
    "images": "images",
    "pair": "integer",
    "round": "integer",
    "rule": "text",
    "source": "text",
    "weight": "number",
    "question": "text",
    "question_hash": "text",
    "answers": "texts",
    "style": "text",
    **{f"{side}_{key}": kind for side in SIDES for key, kind in SIDE_COLUMNS.items()},
}
"""The first four are TRL's preference format; the others tell the pair's origin."""

SAMPLE_COLUMNS: Columns = {
    "prompt": "messages",
    "completion": "messages",
    "images": "images",
    "id": "integer",
    "round": "integer",
    "question": "text",
    "question_hash": "text",
    "answers": "texts",
    "style": "text",
    "index": "integer",
    "author": "text",
    "policy": "integer",
    "weights": "text",
    "seed": "integer",
    "temperature": "number",
    "tokens": "integer",
    "logprob": "number",
    "finish_reason": "text",
    "judge": "text",
    "judge_version": "text",
    "extracted": "text",
    "score": "number",
    "outcome": "text",
}


OF_A_RUN = ("store.db", "store.db-wal", "store.db-shm", "lock", "run.log", "rounds.jsonl")


def require_writable(file: Path, option: str = "-o") -> None:
    """Raise InputError if no file can be written there, or if it would replace a file of a run."""
    if file.resolve().name in OF_A_RUN or file.resolve().suffix == ".safetensors":
        raise InputError(f"{option} {file}: a run has a file of this name, which must not be overwritten; name another")
    if file.is_dir():
        raise InputError(f"{option} {file} is a directory; name a file in it")
    if not file.parent.is_dir():
        raise InputError(f"{option} {file}: {file.parent} is no directory; make it first")


def export_pairs(
    store: Store,
    config: Config,
    path: Path,
    file_format: str,
    rounds: Collection[int],
    rules: Collection[str],
    reporter: Reporter,
) -> int:
    """Write the pairs of these rounds and rules (all, if empty) to a file; returns their number."""
    question = _question_cache(store)
    present = sorted(row["rule"] for row in store.rows("SELECT DISTINCT rule FROM pair"))
    if unknown := sorted(set(rules) - set(present)):
        raise InputError(
            f"--rule {unknown[0]}: no pair has this rule; there are pairs of {', '.join(present) or 'no rule'}"
        )

    def rows() -> Iterator[Row]:
        sql = "SELECT * FROM pair_detail WHERE round = ? ORDER BY pair"
        for number in _rounds(store, rounds):
            for row in store.stream(sql, number):
                if not rules or row["rule"] in rules:
                    yield _pair(row, question(row["question"]), config)

    return _write(store, path, file_format, PAIR_COLUMNS, rows(), reporter)


def export_samples(
    store: Store,
    config: Config,
    path: Path,
    file_format: str,
    rounds: Collection[int],
    outcomes: Collection[str],
    reporter: Reporter,
) -> int:
    """Write the samples of these rounds and outcomes (all, if empty), archived ones included; returns their number."""
    question = _question_cache(store)
    weights = {row["number"]: row["sha256"] for row in store.rows("SELECT number, sha256 FROM policy")}

    def rows() -> Iterator[Row]:
        for number in _rounds(store, rounds):
            for row in round_samples(store, number):
                if not outcomes or row["outcome"] in outcomes:
                    yield _sample(row, question(row["question"]), weights.get(row["policy"]), config)

    return _write(store, path, file_format, SAMPLE_COLUMNS, rows(), reporter)


def _rounds(store: Store, wanted: Collection[int]) -> list[int]:
    present = [row["number"] for row in store.rows("SELECT number FROM round ORDER BY number")]
    if unknown := sorted(set(wanted) - set(present)):
        raise InputError(
            f"--round {unknown[0]}: there is no such round; the last is {present[-1] if present else 'none'}"
        )
    return [number for number in present if not wanted or number in wanted]


def _question_cache(store: Store) -> Callable[[int], tuple[Question, str]]:
    @lru_cache(maxsize=CACHED_QUESTIONS)
    def find(number: int) -> tuple[Question, str]:
        return find_questions(store, "id = ?", number)[0], store.value("SELECT hash FROM question WHERE id = ?", number)

    return find


def _question_columns(question: Question, digest: str, style: str, config: Config) -> Row:
    template: str = getattr(config.prompts, style)
    system = [{"role": "system", "content": words}] if (words := config.policy.system_prompt) is not None else []
    return {
        "prompt": [*system, {"role": "user", "content": template.replace("{question}", question.text)}],
        "images": list(question.images),
        "question": question.text,
        "question_hash": digest,
        "answers": list(question.answers),
    }


def _pair(row: sqlite3.Row, question: tuple[Question, str], config: Config) -> Row:
    return {
        **{key: row[key] for key in PAIR_COLUMNS if key in row.keys()},  # noqa: SIM118 (a Row's `in` looks at values)
        **_question_columns(*question, row["style"], config),
        **{side: [{"role": "assistant", "content": row[f"{side}_text"]}] for side in SIDES},
    }


def _sample(row: Row, question: tuple[Question, str], weights: str | None, config: Config) -> Row:
    return {
        **{key: row[key] for key in SAMPLE_COLUMNS if key in row},
        **_question_columns(*question, row["style"], config),
        "completion": [{"role": "assistant", "content": row["text"]}],
        "weights": weights,
    }


def _write(
    store: Store, path: Path, file_format: str, columns: Columns, rows: Iterable[Row], reporter: Reporter
) -> int:
    """Write a temporary file and rename it, so that an existing file stays until the new one is whole."""
    if not store.value("SELECT 1 FROM question_image LIMIT 1"):
        # A run without images gets no such column: TRL would take it for a vision-language task.
        columns = {name: kind for name, kind in columns.items() if kind != "images"}
    require_writable(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with reporter.bar(f"writing {path.name}", 0, "row") as bar:

            def rows_with_progress() -> Iterator[Row]:
                for row in rows:
                    yield row
                    bar.update()

            with store.snapshot():
                written = FORMATS[file_format](store, temporary, columns, rows_with_progress())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return written


def _write_jsonl(store: Store, path: Path, columns: Columns, rows: Iterable[Row]) -> int:
    """Images as data URLs, which transformers' processors read."""

    def url(digest: str) -> str:
        content, kind = image_bytes(store, digest)
        return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"

    written = 0
    with path.open("w", encoding="utf-8") as file:
        for row in rows:
            if "images" in columns:
                row["images"] = [url(digest) for digest in row["images"]]
            file.write(json.dumps({name: row[name] for name in columns}, ensure_ascii=False) + "\n")
            written += 1
    return written


def _write_parquet(store: Store, path: Path, columns: Columns, rows: Iterable[Row]) -> int:
    """Images as bytes; the file's metadata tells `datasets` that they are images."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    arrow = _arrow_types()
    features = {name: FEATURES[kind] for name, kind in columns.items()}
    schema = pa.schema(
        [pa.field(name, arrow[kind]) for name, kind in columns.items()],
        {"huggingface": json.dumps({"info": {"features": features}})},
    )
    waiting, written = iter(rows), 0
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        while group := list(islice(waiting, ROWS_PER_GROUP)):
            for row in group:
                row["images"] = [{"bytes": image_bytes(store, d)[0], "path": None} for d in row["images"]]
            writer.write_table(pa.Table.from_pylist(group, schema))
            written += len(group)
    return written


FORMATS: dict[str, Callable[[Store, Path, Columns, Iterable[Row]], int]] = {
    "jsonl": _write_jsonl,
    "parquet": _write_parquet,
}


def _value(dtype: str) -> dict[str, str]:
    return {"dtype": dtype, "_type": "Value"}


def _list_of(feature: Mapping[str, Any]) -> dict[str, Any]:
    return {"feature": feature, "_type": "List"}


FEATURES: dict[str, Any] = {
    "text": _value("string"),
    "integer": _value("int64"),
    "number": _value("float64"),
    "texts": _list_of(_value("string")),
    "messages": _list_of({"role": _value("string"), "content": _value("string")}),
    "images": _list_of({"_type": "Image"}),
}
"""The kinds as `datasets.Features`."""


def _arrow_types() -> dict[str, Any]:
    import pyarrow as pa

    message = pa.struct([pa.field("role", pa.string()), pa.field("content", pa.string())])
    return {
        "text": pa.string(),
        "integer": pa.int64(),
        "number": pa.float64(),
        "texts": pa.list_(pa.string()),
        "messages": pa.list_(message),
        "images": pa.list_(pa.struct([pa.field("bytes", pa.binary()), pa.field("path", pa.string())])),
    }
