"""A round's judged samples, question by question: what pairs are chosen from, at most one question in memory."""

import sqlite3
from collections.abc import Iterator
from itertools import groupby
from operator import itemgetter

from store.database import Store

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
