"""Verdicts of other judges beside the run's own, and the outcomes and pairs that they would change."""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from store.database import Store, now_s


@dataclass(frozen=True)
class Kind:
    """A kind of record that is judged again, with the table of the new verdicts and its queries."""

    name: str
    table: str
    key: str
    waiting: str
    turned: str


_COLUMNS = "question, text, style, finish_reason"
_NEW = "new.judge = ? AND new.judge_version = ?"

SAMPLES = Kind(
    "sample",
    "rejudged",
    "sample",
    f"""SELECT sample.id, {_COLUMNS}, verdict.judge, verdict.judge_version FROM sample
        JOIN verdict ON verdict.sample = sample.id JOIN round ON round.number = sample.round
        WHERE sample.id > ? AND round.phase = 'done' ORDER BY sample.id LIMIT ?""",
    """FROM sample AS judged JOIN verdict AS old ON old.sample = judged.id
       JOIN rejudged AS new ON new.sample = judged.id""",
)
"""The chains of finished rounds that are in the store."""

EVALUATIONS = Kind(
    "evaluation",
    "rejudged_evaluation",
    "evaluation",
    f"""SELECT id, {_COLUMNS}, judge, judge_version FROM evaluation WHERE id > ? ORDER BY id LIMIT ?""",
    """FROM evaluation AS judged JOIN evaluation AS old ON old.id = judged.id
       JOIN rejudged_evaluation AS new ON new.evaluation = judged.id""",
)
"""The answers to held-out questions."""

KINDS = (SAMPLES, EVALUATIONS)


@dataclass(frozen=True)
class NewRejudged:
    """Another judge's verdict on a sample or an evaluation, by its id; `flags` is a JSON list."""

    id: int
    judge: str
    judge_version: str
    extracted: str | None
    score: float
    outcome: str
    flags: str


def judged_after(store: Store, kind: Kind, after: int, limit: int) -> list[sqlite3.Row]:
    """The first `limit` with an id above `after`: id, question, text, style, finish_reason, judge, judge_version."""
    return store.rows(kind.waiting, after, limit)


def count_judged(store: Store, kind: Kind) -> int:
    """Number of all records that `judged_after` gives."""
    count: int = store.value(f"SELECT count(*) FROM ({kind.waiting})", 0, -1)
    return count


def has_rejudged(store: Store, kind: Kind, ids: Sequence[int], judge: str, version: str) -> set[int]:
    """Those of some ids on which this judge has a verdict; the ids are consecutive in the order of `judged_after`."""
    rows = store.stream(
        f"SELECT {kind.key} FROM {kind.table} WHERE {kind.key} BETWEEN ? AND ? AND judge = ? AND judge_version = ?",
        min(ids),
        max(ids),
        judge,
        version,
    )
    return {row[0] for row in rows} & set(ids)


def add_rejudged(store: Store, kind: Kind, verdicts: Iterable[NewRejudged]) -> None:
    """Insert a batch; a verdict that is there stays. The caller's transaction decides when it is committed."""
    created = now_s()
    store.connection.executemany(
        f"INSERT OR IGNORE INTO {kind.table} VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        [(v.id, v.judge, v.judge_version, v.extracted, v.score, v.outcome, v.flags, created) for v in verdicts],
    )


def turned(store: Store, kind: Kind, judge: str, version: str) -> Iterator[sqlite3.Row]:
    """(id, question, before, after, answer_before, answer) where this judge gives another outcome than the run's."""
    return store.stream(
        "SELECT judged.id, judged.question, old.outcome AS before, new.outcome AS after,"
        f" old.extracted AS answer_before, new.extracted AS answer {kind.turned}"
        f" WHERE {_NEW} AND old.outcome != new.outcome ORDER BY judged.id",
        judge,
        version,
    )


def count_rejudged(store: Store, kind: Kind, judge: str, version: str) -> int:
    """Number of verdicts that this judge has given."""
    count: int = store.value(f"SELECT count(*) FROM {kind.table} WHERE judge = ? AND judge_version = ?", judge, version)
    return count


TURNED_PAIRS = """
SELECT pair.id, pair.round, pair.rule, pair.chosen, pair.rejected,
       chosen.outcome AS chosen_before, coalesce(chosen_new.outcome, chosen.outcome) AS chosen_after,
       rejected.outcome AS rejected_before, coalesce(rejected_new.outcome, rejected.outcome) AS rejected_after
FROM pair JOIN verdict AS chosen ON chosen.sample = pair.chosen
JOIN verdict AS rejected ON rejected.sample = pair.rejected
LEFT JOIN rejudged AS chosen_new ON chosen_new.sample = pair.chosen
  AND chosen_new.judge = ?1 AND chosen_new.judge_version = ?2
LEFT JOIN rejudged AS rejected_new ON rejected_new.sample = pair.rejected
  AND rejected_new.judge = ?1 AND rejected_new.judge_version = ?2
WHERE chosen.outcome = 'correct' AND rejected.outcome = 'wrong'
  AND NOT (chosen_after = 'correct' AND rejected_after = 'wrong')
ORDER BY pair.id"""


def turned_pairs(store: Store, judge: str, version: str) -> Iterator[sqlite3.Row]:
    """Pairs of a right and a wrong chain that this judge would not have made: it gives one side another outcome."""
    return store.stream(TURNED_PAIRS, judge, version)


def rejudged_of_sample(store: Store, sample: int) -> list[sqlite3.Row]:
    """The verdicts of other judges on one sample."""
    return store.rows(
        "SELECT judge, judge_version, extracted, score, outcome, flags FROM rejudged WHERE sample = ? ORDER BY created",
        sample,
    )


def rewards_of_sample(store: Store, sample: int) -> dict[str, float]:
    """The numbers that another trainer logged with one of its completions, by name."""
    rows = store.rows("SELECT name, value FROM reward WHERE sample = ? ORDER BY name", sample)
    return {row["name"]: row["value"] for row in rows}
