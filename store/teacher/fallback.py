"""Questions of a round that no sample solved: the choice of those that go to the teacher, and their outcomes."""

import sqlite3
from collections.abc import Iterable

from store.database import Store

CHOOSE = """
INSERT INTO fallback (round, question, failed)
SELECT :round, hard.question,
    (SELECT sample.id FROM sample JOIN verdict ON verdict.sample = sample.id
     WHERE sample.round = :round AND sample.question = hard.question AND author = 'policy'
     ORDER BY verdict.outcome <> 'wrong', "index" LIMIT 1) AS failed
FROM (SELECT sample.question AS question, count(*) AS judged, sum(verdict.outcome = 'correct') AS correct
      FROM sample JOIN verdict ON verdict.sample = sample.id AND verdict.outcome <> 'judge_error'
      JOIN round_question ON round_question.round = :round AND round_question.question = sample.question
      WHERE sample.author = 'policy' AND sample.round BETWEEN :round - :earlier AND :round
      GROUP BY sample.question) AS hard
JOIN question ON question.id = hard.question
WHERE hard.correct = 0 AND hard.judged >= :least AND failed IS NOT NULL
  AND question.suspect IS NULL AND question.answers <> '[]'
ORDER BY EXISTS (SELECT 1 FROM fallback AS before WHERE before.question = hard.question), question.hash LIMIT :limit"""

FAILED_CHAINS = """
SELECT fallback.question, sample.text FROM fallback JOIN sample ON sample.id = fallback.failed
WHERE fallback.round = ? AND fallback.outcome IS NULL ORDER BY fallback.question"""

KEPT_CHAINS = """
SELECT sample.id, sample.question, sample.text, sample.token_ids, fallback.failed
FROM fallback JOIN sample ON sample.id = fallback.sample WHERE fallback.round = ? ORDER BY sample.question"""


def choose_hard_questions(store: Store, round_number: int, earlier_rounds: int, min_samples: int, limit: int) -> None:
    """Choose the questions of a round that go to the teacher, at most `limit`; do nothing if they were chosen before.

    They are those with pass rate 0 over at least `min_samples` judged samples of this round and the `earlier_rounds`
    before it. Questions that never went to the teacher come first.
    """
    with store.transaction():
        if store.row("SELECT 1 FROM fallback WHERE round = ?", round_number):
            return
        store.connection.execute(
            CHOOSE, {"round": round_number, "earlier": earlier_rounds, "least": min_samples, "limit": limit}
        )


def failed_chains(store: Store, round_number: int) -> dict[int, str]:
    """Question -> the policy's own failed chain, for questions of a round that have no outcome yet."""
    return {row["question"]: row["text"] for row in store.rows(FAILED_CHAINS, round_number)}


def settle(store: Store, round_number: int, question: int, outcome: str, sample: int) -> None:
    """Record the teacher's right chain for a question; the caller's transaction decides when it is committed."""
    store.connection.execute(
        "UPDATE fallback SET outcome = ?, sample = ? WHERE round = ? AND question = ?",
        (outcome, sample, round_number, question),
    )


def mark_suspect(store: Store, round_number: int, questions: Iterable[int]) -> None:
    """Record that the teacher failed these questions twice; later rounds leave them out. One transaction."""
    with store.transaction():
        for question in questions:
            store.connection.execute("UPDATE question SET suspect = ? WHERE id = ?", (round_number, question))
            store.connection.execute(
                "UPDATE fallback SET outcome = 'suspect' WHERE round = ? AND question = ?", (round_number, question)
            )


def mark_unanswered(store: Store, round_number: int) -> None:
    """Give every question of a round that has no outcome yet the outcome `unanswered`, in one transaction."""
    with store.transaction():
        store.connection.execute(
            "UPDATE fallback SET outcome = 'unanswered' WHERE round = ? AND outcome IS NULL", (round_number,)
        )


def count_outcomes(store: Store, round_number: int) -> dict[str, int]:
    """The number of a round's questions by outcome, in the order of the outcomes' names."""
    rows = store.rows(
        "SELECT outcome, count(*) AS questions FROM fallback WHERE round = ? GROUP BY outcome ORDER BY outcome",
        round_number,
    )
    return {row["outcome"]: row["questions"] for row in rows}


def kept_chains(store: Store, round_number: int) -> list[sqlite3.Row]:
    """The teacher's right chains for a round's hard questions, each with the id of the policy's failed chain."""
    return store.rows(KEPT_CHAINS, round_number)


def suspects(store: Store) -> list[int]:
    """Questions that the teacher failed twice, the latest round's first."""
    return [
        row["id"] for row in store.rows("SELECT id FROM question WHERE suspect IS NOT NULL ORDER BY suspect DESC, id")
    ]
