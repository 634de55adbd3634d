"""A round's judged samples, question by question: what pairs are chosen from, at most one question in memory."""

import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter

from store.database import Store


@dataclass(frozen=True)
class NewPair:
    """Two stored samples of one question, the rule that paired them, and the pair's weight in (0, 1]."""

    chosen: int
    rejected: int
    rule: str
    weight: float


# In the order of the table's unique key: no sort, and the rows of a question lie together.
OWN = """
SELECT sample.question, sample.id, sample.text, sample.token_ids, sample.logprob,
       verdict.outcome, verdict.score, verdict.extracted, verdict.flags
FROM sample JOIN verdict ON verdict.sample = sample.id
WHERE sample.round = ? AND sample.author = 'policy'
ORDER BY sample.question, sample.policy, sample.style, sample."index" """

TAUGHT = """
SELECT sample.question, sample.id, sample.text, sample.token_ids, sample.logprob,
       verdict.outcome, verdict.score, verdict.extracted, verdict.flags
FROM sample JOIN verdict ON verdict.sample = sample.id
WHERE sample.question = ? AND sample.author = 'teacher' AND sample.style = ? ORDER BY sample.round, sample.id"""


def judged_by_question(store: Store, number: int) -> Iterator[tuple[int, list[sqlite3.Row]]]:
    """(question id, its policy's samples of this round by index), in the order of the ids."""
    for question, rows in groupby(store.stream(OWN, number), key=itemgetter(0)):
        yield question, list(rows)


def taught(store: Store, question: int, style: str) -> list[sqlite3.Row]:
    """What the teacher wrote for a question in any round, oldest first."""
    return store.rows(TAUGHT, question, style)


def replace_pairs(store: Store, round_number: int, pairs: Iterable[NewPair]) -> None:
    """Store a round's pairs in place of those it has, in one transaction."""
    with store.transaction():
        store.connection.execute("DELETE FROM pair WHERE round = ?", (round_number,))
        store.connection.executemany(
            "INSERT INTO pair (round, chosen, rejected, rule, weight) VALUES (?, ?, ?, ?, ?)",
            [(round_number, pair.chosen, pair.rejected, pair.rule, pair.weight) for pair in pairs],
        )
