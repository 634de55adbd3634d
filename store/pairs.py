"""Preference pairs: the judged samples that they are chosen from, a round's pairs, and imported ones.

Imported pairs wait here until an update takes them into its round.
"""

import hashlib
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter

from store.database import Store, as_json, now
from store.new_questions import NewQuestion, staged_questions
from store.questions import find_question_id
from store.samples import NewSample, NewVerdict, add_samples, add_verdicts

IMPORTED_RULE = "imported"
"""The value of `pair.rule` for an imported pair."""

COUNTER_RULE = "counter"
"""The value of `pair.rule` for a pair whose rejected side is the chosen one with its answer swapped."""


@dataclass(frozen=True)
class NewPair:
    """Two stored samples of one question, the rule that paired them, and the pair's weight in (0, 1]."""

    chosen: int
    rejected: int
    rule: str
    weight: float


@dataclass(frozen=True)
class SwappedPair:
    """A stored sample and a new one, the same chain with another answer, which a judge found wrong.

    `verdict` is its judge, the judge's version, extracted answer, score, outcome and flags.
    """

    chosen: int
    rejected: NewSample
    verdict: tuple[str, str, str | None, float, str, str]


# In the order of the table's unique key, so that nothing is sorted and the rows of a question are adjacent.
OWN = """
SELECT sample.question, sample.id, sample.text, sample.token_ids, sample.logprob,
       verdict.outcome, verdict.score, verdict.extracted, verdict.flags
FROM sample JOIN verdict ON verdict.sample = sample.id
WHERE sample.round = ? AND sample.author = 'policy'
ORDER BY sample.question, sample.policy, sample.style, sample."index" """

OF_TEACHER = """
SELECT sample.question, sample.id, sample.text, sample.token_ids, sample.logprob,
       verdict.outcome, verdict.score, verdict.extracted, verdict.flags
FROM sample JOIN verdict ON verdict.sample = sample.id
WHERE sample.question = ? AND sample.author = 'teacher' AND sample.style = ? ORDER BY sample.round, sample.id"""


def judged_by_question(store: Store, round_number: int) -> Iterator[tuple[int, list[sqlite3.Row]]]:
    """(question id, the policy's samples of it in this round by index), in the order of the ids."""
    for question, rows in groupby(store.stream(OWN, round_number), key=itemgetter(0)):
        yield question, list(rows)


def teacher_samples(store: Store, question: int, style: str) -> list[sqlite3.Row]:
    """The teacher's samples for a question in any round, oldest first."""
    return store.rows(OF_TEACHER, question, style)


def replace_pairs(
    store: Store, round_number: int, pairs: Iterable[NewPair], swapped: Iterable[SwappedPair] = ()
) -> None:
    """Replace a round's pairs by these, in one transaction."""
    own = "FROM sample WHERE round = ? AND author = 'swapped'"
    with store.transaction():
        store.connection.execute("DELETE FROM pair WHERE round = ?", (round_number,))
        store.connection.execute(f"DELETE FROM verdict WHERE sample IN (SELECT id {own})", (round_number,))
        store.connection.execute(f"DELETE {own}", (round_number,))
        store.connection.executemany(
            "INSERT INTO pair (round, chosen, rejected, rule, weight) VALUES (?, ?, ?, ?, ?)",
            [(round_number, pair.chosen, pair.rejected, pair.rule, pair.weight) for pair in pairs],
        )
        for pair in swapped:
            add_samples(store, [pair.rejected])
            sample = store.value("SELECT last_insert_rowid()")
            add_verdicts(store, [NewVerdict(sample, *pair.verdict)])
            store.connection.execute(
                "INSERT INTO pair (round, chosen, rejected, rule, weight) VALUES (?, ?, ?, ?, 1.0)",
                (round_number, pair.chosen, sample, COUNTER_RULE),
            )


TRAINED_ON = """
SELECT chosen.question AS question, chosen.style AS style, chosen.token_ids AS chosen,
       rejected.token_ids AS rejected, pair.weight AS weight, chosen.logprob AS chosen_logprob,
       rejected.logprob AS rejected_logprob, CASE WHEN chosen.author = 'policy' AND rejected.author = 'policy'
       AND chosen.policy = rejected.policy THEN chosen.policy END AS policy
FROM pair JOIN sample AS chosen ON chosen.id = pair.chosen JOIN sample AS rejected ON rejected.id = pair.rejected
WHERE pair.round BETWEEN ? AND ? ORDER BY pair.id"""


def training_pairs(store: Store, first_round: int, last_round: int) -> list[sqlite3.Row]:
    """(question, style, chosen, rejected, weight) of the pairs of these rounds; both sides are packed token ids.

    `policy` sampled both sides, or is None; `chosen_logprob` and `rejected_logprob` are its log-probabilities in nats.
    """
    return store.rows(TRAINED_ON, first_round, last_round)


ANSWERS_OF_PAIRS = """
SELECT lower(preferred.extracted) AS chosen, lower(other.extracted) AS rejected, sum(pair.weight) AS weight
FROM pair JOIN verdict AS preferred ON preferred.sample = pair.chosen
JOIN verdict AS other ON other.sample = pair.rejected
WHERE pair.round = ? AND preferred.extracted IS NOT NULL AND other.extracted IS NOT NULL GROUP BY 1, 2"""


def weigh_answers(store: Store, round_number: int) -> tuple[Counter[str], Counter[str]]:
    """The weight of a round's pairs for and against each answer, in lower case; pairs of equal answers do not count."""
    chosen, rejected = Counter[str](), Counter[str]()
    for row in store.rows(ANSWERS_OF_PAIRS, round_number):
        if row["chosen"] != row["rejected"]:
            chosen[row["chosen"]] += row["weight"]
            rejected[row["rejected"]] += row["weight"]
    return chosen, rejected


@dataclass(frozen=True)
class NewImportedPair:
    """A chosen and a rejected text for a question; `line` is its line in the file.

    `question` is the id of a stored question, or a question to store.
    """

    question: int | NewQuestion
    style: str
    chosen: str
    rejected: str
    line: int


def add_imported_pairs(store: Store, pairs: Iterable[NewImportedPair], file: str, file_sha256: str) -> int:
    """Store the new pairs, all or none; returns their number.

    Before that, images of new questions are decoded and stored in pieces.
    """
    pairs = list(pairs)
    new = (pair.question for pair in pairs if isinstance(pair.question, NewQuestion))
    with staged_questions(store, new) as staged:
        staged.add_images()
        with store.transaction():
            staged.add()
            return sum(_add_imported(store, pair, file, file_sha256) for pair in pairs)


def _add_imported(store: Store, pair: NewImportedPair, file: str, file_sha256: str) -> bool:
    question = pair.question
    if isinstance(question, NewQuestion):
        found = find_question_id(store, question.text, question.images)
        assert found is not None
        question = found
    identity = as_json([question, pair.style, pair.chosen, pair.rejected])
    written = store.connection.execute(
        "INSERT OR IGNORE INTO imported_pair (hash, question, style, chosen, rejected, file, file_sha256, line,"
        " imported) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            hashlib.sha256(identity.encode()).hexdigest(),
            question,
            pair.style,
            pair.chosen,
            pair.rejected,
            file,
            file_sha256,
            pair.line,
            now(),
        ),
    )
    return written.rowcount == 1


def has_imported_pairs(store: Store) -> bool:
    """Whether any pair was imported, waiting or not."""
    return store.row("SELECT 1 FROM imported_pair LIMIT 1") is not None


def adopt_imported_pairs(store: Store, round_number: int, encode: Callable[[str], Sequence[int]]) -> int:
    """Make every waiting pair a pair of this round, all in one transaction; returns their number.

    `encode` returns the token ids to train on. A second call finds nothing waiting.
    """
    with store.transaction():
        waiting = store.rows("SELECT * FROM imported_pair WHERE pair IS NULL ORDER BY id")
        for row in waiting:
            sides = []
            for index, text in ((2 * row["id"], row["chosen"]), (2 * row["id"] + 1, row["rejected"])):
                new = NewSample(
                    round=round_number,
                    question=row["question"],
                    author="imported",
                    policy=None,
                    style=row["style"],
                    index=index,
                    text=text,
                    token_ids=encode(text),
                    finish_reason="stop",
                )
                add_samples(store, [new])
                sides.append(store.value("SELECT last_insert_rowid()"))
            pair = store.connection.execute(
                "INSERT INTO pair (round, chosen, rejected, rule, weight, source) VALUES (?, ?, ?, ?, 1.0, 'imported')",
                (round_number, *sides, IMPORTED_RULE),
            ).lastrowid
            store.connection.execute("UPDATE imported_pair SET pair = ? WHERE id = ?", (pair, row["id"]))
    return len(waiting)
