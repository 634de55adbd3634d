"""Samples by their properties, from the store and from the archives of rounds."""

import json
from collections.abc import Iterator, Mapping, Sequence
from heapq import merge
from itertools import islice
from typing import Any

from store.database import Store
from store.maintenance.archive import IN_STORE, read_archive, with_verdict

COLUMNS = {
    "round": "sample.round",
    "question": "sample.question",
    "policy": "sample.policy",
    "style": "sample.style",
    "author": "sample.author",
    "outcome": "verdict.outcome",
}

Wanted = Mapping[str, Sequence[Any]]
"""Column -> its allowed values; other columns may have any value."""


def find_samples(store: Store, wanted: Wanted, split: Sequence[str] = (), limit: int | None = None) -> Iterator[Any]:
    """Samples with their verdicts, in the order of their ids, at most `limit`; `split` is their questions'."""
    if any(not values for values in wanted.values()):
        return iter(())
    found = merge(
        _here(store, wanted, split, limit),
        *(_archived(store, row["file"], wanted, split) for row in _archives(store, wanted)),
        key=lambda sample: sample["id"],
    )
    return islice(found, limit)


def conditions(wanted: Wanted, columns: Mapping[str, str]) -> tuple[list[str], list[str]]:
    """SQL conditions, each with one parameter: a JSON list, which may have any length."""
    terms = [f"{columns[name]} IN (SELECT value FROM json_each(?))" for name in wanted]
    return terms, [json.dumps(list(values)) for values in wanted.values()]


def _here(store: Store, wanted: Wanted, split: Sequence[str], limit: int | None) -> Iterator[Any]:
    terms, values = conditions(wanted, COLUMNS)
    if "question" in wanted and "round" not in wanted:
        # The table's key begins with the round: with rounds named, no scan of every sample is needed.
        terms.append("sample.round IN (SELECT number FROM round)")
    if split:
        terms.append("sample.question IN (SELECT id FROM question WHERE split IN (SELECT value FROM json_each(?)))")
        values.append(json.dumps(list(split)))
    where = f"WHERE {' AND '.join(terms)}" if terms else ""
    sql = f"{IN_STORE} {where} ORDER BY sample.id LIMIT ?"
    return (dict(row) for row in store.stream(sql, *values, -1 if limit is None else limit))


def _archives(store: Store, wanted: Wanted) -> list[Any]:
    terms, values = conditions({"round": wanted["round"]} if "round" in wanted else {}, {"round": "round"})
    where = f"WHERE {' AND '.join(terms)}" if terms else ""
    return store.rows(f"SELECT file FROM archive {where} ORDER BY round", *values)


def _archived(store: Store, file: str, wanted: Wanted, split: Sequence[str]) -> Iterator[Any]:
    filters = [(name, "in", list(values)) for name, values in wanted.items() if name != "outcome"]
    splits = {row["id"]: row["split"] for row in store.rows("SELECT id, split FROM question")} if split else {}
    for row in read_archive(store, file, filters or None):
        sample = with_verdict(row)
        if "outcome" in wanted and sample["outcome"] not in wanted["outcome"]:
            continue
        if not split or splits[sample["question"]] in split:
            yield sample
