"""Archived rounds: samples and verdicts that no pair uses move to one Parquet file a round, here or at a URL.

These stay in the store: the round's figures, its questions with their numbers of solved samples, its pairs with both
samples and their verdicts, samples of other authors than the policy, and evaluations. Later rounds use the
freed pages.
"""

import hashlib
import os
from collections.abc import Iterator
from heapq import merge
from itertools import islice
from pathlib import Path
from typing import Any

from store.database import Store, now
from store.errors import StoreError
from store.maintenance.archive_place import FOLDER, flush, opened, put, sha256
from store.schema.views_004 import verdict_of
from store.summary import summarise_round

BATCH = 10_000
ARROW_TYPES = {"INTEGER": "int64", "REAL": "float64", "TEXT": "string", "BLOB": "binary"}

IN_STORE = f"""
SELECT sample.*, verdict.judge, verdict.judge_version, verdict.extracted, verdict.score, verdict.outcome,
       verdict.flags
FROM sample LEFT JOIN verdict ON {verdict_of("sample")}"""

VERDICT_KEYS = ("judge", "judge_version", "extracted", "score", "outcome", "flags")


def rounds_to_archive(store: Store, older_than: int) -> list[int]:
    """Finished rounds more than `older_than` rounds behind the latest that are not archived yet."""
    return [
        row["number"]
        for row in store.rows(
            "SELECT number FROM round WHERE phase = 'done' AND number < (SELECT max(number) FROM round) - ?"
            " AND number NOT IN (SELECT round FROM archive) ORDER BY number",
            older_than,
        )
    ]


def archive_round(store: Store, round_number: int, url: str | None = None) -> int:
    """Move a finished round to a file beside the store, or into the folder at a URL; returns how many samples moved.

    The file is written whole first; then one transaction records it and deletes what it holds. A crash in between
    leaves a file that the next call replaces. A file at a URL is read back and compared before the transaction. Raises
    StoreError if it cannot be written there, or comes back altered.
    """
    run_dir = store.path.parent
    folder, name = run_dir / FOLDER, f"round-{round_number:06d}.parquet"
    folder.mkdir(exist_ok=True)
    temporary = folder / f"{name}.{os.getpid()}.tmp"
    try:
        written = _write(store, round_number, temporary)
        digest = file_sha256(temporary)
        if url is not None:
            put(temporary, f"{url}/{name}")
            if sha256(run_dir, f"{url}/{name}") != digest:
                raise StoreError(f"{url}/{name} is not what was written; nothing was moved, try again")
        with store.transaction():
            if store.value("SELECT 1 FROM archive WHERE round = ?", round_number):
                return 0
            ids = [
                row["id"]
                for row in store.rows(f"SELECT id FROM sample WHERE {_moves(store)} ORDER BY id", round_number)
            ]
            if ids != written:
                raise StoreError(f"round {round_number} changed while it was archived; nothing was moved, try again")
            if url is None:
                temporary.replace(folder / name)
                flush(folder)
            _delete(store, round_number, f"{FOLDER if url is None else url}/{name}", digest, ids)
    finally:
        temporary.unlink(missing_ok=True)
    return len(written)


def round_samples(store: Store, round_number: int) -> Iterator[dict[str, Any]]:
    """Every sample of a round in the order of its id, with its verdict, wherever it is kept."""
    here = (dict(row) for row in store.stream(f"{IN_STORE} WHERE sample.round = ? ORDER BY sample.id", round_number))
    row = store.row("SELECT file FROM archive WHERE round = ?", round_number)
    there = iter(()) if row is None else (with_verdict(each) for each in read_archive(store, row["file"]))
    return merge(here, there, key=lambda sample: sample["id"])


def question_samples(store: Store, round_number: int, question: int) -> list[dict[str, Any]]:
    """A question's samples of a round in the order of their ids, with their verdicts, wherever they are kept."""
    rows = store.rows(f"{IN_STORE} WHERE sample.round = ? AND sample.question = ?", round_number, question)
    found = [dict(row) for row in rows]
    file = store.value("SELECT file FROM archive WHERE round = ?", round_number)
    if file is not None:
        found += [with_verdict(each) for each in read_archive(store, file, [("question", "==", question)])]
    return sorted(found, key=lambda sample: sample["id"])


def find_sample(store: Store, sample: int) -> dict[str, Any]:
    """A sample by its id with its verdict, wherever it is kept; raises StoreError if there is none."""
    row = store.row(f"{IN_STORE} WHERE sample.id = ?", sample)
    if row is not None:
        return dict(row)
    for archived in store.rows("SELECT file FROM archive WHERE ? BETWEEN first_sample AND last_sample", sample):
        for each in read_archive(store, archived["file"], [("id", "==", sample)]):
            return with_verdict(each)
    raise StoreError(f"{store.path.parent} has no sample {sample}")


def read_archive(store: Store, file: str, filters: Any = None) -> Iterator[dict[str, Any]]:
    """The rows of an archive file: the columns of `sample`, and `verdicts`, a list of rows of `verdict`."""
    import pyarrow.parquet as pq
    from pyarrow import ArrowException

    try:
        with opened(store.path.parent, file) as stream:
            if filters is not None:
                yield from pq.read_table(stream, filters=filters).to_pylist()
                return
            with pq.ParquetFile(stream) as parquet:
                for batch in parquet.iter_batches(BATCH):
                    yield from batch.to_pylist()
    except (OSError, ArrowException) as error:
        raise StoreError(f"archive {file} of {store.path.parent} cannot be read ({error}); put it back") from error


def file_sha256(path: Path) -> str:
    """sha256 of a file's bytes, as hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def with_verdict(row: dict[str, Any]) -> dict[str, Any]:
    """Choose among several verdicts as `verdict_of` does."""
    verdicts = sorted(row.pop("verdicts"), key=lambda verdict: verdict["judge"])
    one: dict[str, Any] = max(verdicts, key=lambda verdict: verdict["judge_version"], default={})
    return {**row, **{key: one.get(key) for key in VERDICT_KEYS}}


def _moves(store: Store) -> str:
    """The condition on samples that move: the policy's own that no other table refers to.

    The sample with the largest id stays: SQLite numbers the next one after it, so no id is used twice.
    """
    kept = [
        f"sample.id NOT IN (SELECT {key['from']} FROM {table} WHERE {key['from']} IS NOT NULL)"
        for table in (row["name"] for row in store.rows("SELECT name FROM sqlite_master WHERE type = 'table'"))
        if table != "verdict"
        for key in store.rows(f"PRAGMA foreign_key_list({table})")
        if key["table"] == "sample"
    ]
    own = "sample.round = ? AND sample.author = 'policy' AND sample.id < (SELECT max(id) FROM sample)"
    return " AND ".join([own, *kept])


def _write(store: Store, round_number: int, path: Path) -> list[int]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    verdict_type = pa.struct(_fields(store, "verdict"))
    schema = pa.schema([*_fields(store, "sample"), pa.field("verdicts", pa.list_(verdict_type))])
    samples = store.stream(f"SELECT * FROM sample WHERE {_moves(store)} ORDER BY id", round_number)
    written: list[int] = []
    with path.open("xb") as file:
        with pq.ParquetWriter(file, schema, compression="zstd") as writer:
            while batch := [dict(row) for row in islice(samples, BATCH)]:
                for row in batch:
                    row["verdicts"] = [
                        dict(each) for each in store.rows("SELECT * FROM verdict WHERE sample = ?", row["id"])
                    ]
                writer.write_table(pa.Table.from_pylist(batch, schema))
                written += [row["id"] for row in batch]
        file.flush()
        os.fsync(file.fileno())
    return written


def _fields(store: Store, table: str) -> list[Any]:
    """A table's columns as Arrow fields, whatever migrations have added to it."""
    import pyarrow as pa

    columns = store.rows(f"PRAGMA table_info({table})")
    return [pa.field(column["name"], pa.type_for_alias(ARROW_TYPES[column["type"]])) for column in columns]


def _delete(store: Store, round_number: int, file: str, digest: str, ids: list[int]) -> None:
    if store.value("SELECT 1 FROM round_summary WHERE round = ?", round_number) is None:
        summarise_round(store, round_number)
    store.connection.execute(
        "INSERT INTO archive (round, file, sha256, samples, first_sample, last_sample, created)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        (round_number, file, digest, len(ids), ids[0] if ids else 0, ids[-1] if ids else 0, now()),
    )
    store.connection.execute(
        "INSERT INTO archived_question SELECT sample.round, sample.question, count(*), coalesce(sum(outcome ="
        f" 'correct'), 0) FROM sample LEFT JOIN verdict ON {verdict_of('sample')}"
        f" WHERE {_moves(store)} GROUP BY sample.question",
        (round_number,),
    )
    store.connection.executemany("DELETE FROM verdict WHERE sample = ?", ((sample,) for sample in ids))
    store.connection.executemany("DELETE FROM sample WHERE id = ?", ((sample,) for sample in ids))
