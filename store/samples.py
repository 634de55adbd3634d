"""Samples (chains of thought), their verdicts, and votes."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from store.database import Store, now_s
from store.packing import pack_token_ids


@dataclass(frozen=True)
class NewSample:
    """One chain of thought. `logprob` sums the raw log-probabilities of `token_ids` in nats."""

    round: int
    question: int
    author: str
    policy: int | None
    style: str
    index: int
    text: str
    token_ids: Sequence[int]
    finish_reason: str
    logprob: float | None = None
    seed: int | None = None
    temperature: float | None = None
    teacher_call: str | None = None


@dataclass(frozen=True)
class NewVerdict:
    """A judge's verdict on a stored sample."""

    sample: int
    judge: str
    judge_version: str
    extracted: str | None
    score: float
    outcome: str
    flags: str = "[]"
    """A JSON list of texts."""


@dataclass(frozen=True)
class NewVote:
    """The vote of a question's samples: the most frequent answer and its lead.

    `samples` is the number counted; `share` and `margin` are in [0, 1]. `outcome` is the verdict on `answer`,
    None if no accepted answer is known.
    """

    round: int
    question: int
    answer: str | None
    samples: int
    share: float
    margin: float
    outcome: str | None


def sampled_rounds(store: Store) -> list[int]:
    """The rounds that have samples of the policy, in order."""
    asked = (
        "SELECT number FROM round WHERE number > 0 AND EXISTS (SELECT 1 FROM sample WHERE round = number) ORDER BY 1"
    )
    return [row["number"] for row in store.rows(asked)]


def add_samples(store: Store, samples: Iterable[NewSample]) -> None:
    """Insert a batch; the caller's transaction decides when it is committed."""
    created = now_s()
    store.connection.executemany(
        'INSERT INTO sample (round, question, author, policy, style, "index", seed, temperature, text,'
        " token_ids, tokens, logprob, finish_reason, teacher_call, created)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (
                s.round,
                s.question,
                s.author,
                s.policy,
                s.style,
                s.index,
                s.seed,
                s.temperature,
                s.text,
                pack_token_ids(s.token_ids),
                len(s.token_ids),
                s.logprob,
                s.finish_reason,
                s.teacher_call,
                created,
            )
            for s in samples
        ],
    )


def add_verdicts(store: Store, verdicts: Iterable[NewVerdict]) -> None:
    """Insert a batch; the caller's transaction decides when it is committed."""
    store.connection.executemany(
        "INSERT INTO verdict (sample, judge, judge_version, extracted, score, outcome, flags)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        [(v.sample, v.judge, v.judge_version, v.extracted, v.score, v.outcome, v.flags) for v in verdicts],
    )


def add_votes(store: Store, votes: Iterable[NewVote]) -> None:
    """Insert a batch; the caller's transaction decides when it is committed."""
    store.connection.executemany(
        "INSERT INTO vote (round, question, answer, samples, share, margin, outcome) VALUES (?, ?, ?, ?, ?, ?, ?)",
        [(v.round, v.question, v.answer, v.samples, v.share, v.margin, v.outcome) for v in votes],
    )


PRESENT = """
SELECT question, "index" FROM sample WHERE round = ? AND author = 'policy' AND policy = ? AND style = ?"""

UNJUDGED = """
SELECT sample.id, sample.question, sample.text, sample.style, sample.finish_reason
FROM sample JOIN question ON question.id = sample.question
WHERE sample.round = ? AND sample.id > ? AND question.answers != '[]'
  AND NOT EXISTS (SELECT 1 FROM verdict WHERE verdict.sample = sample.id)
ORDER BY sample.id LIMIT ?"""

OF_QUESTION = """
SELECT sample.id, sample.question, sample.text, sample.style, sample.finish_reason, verdict.extracted, verdict.outcome
FROM sample LEFT JOIN verdict ON verdict.sample = sample.id
WHERE sample.round = ? AND sample.author = 'policy' AND sample.question = ? ORDER BY sample."index" """

RATIONALES = """
SELECT sample.question, sample.token_ids FROM sample JOIN verdict ON verdict.sample = sample.id
WHERE sample.round = 0 AND sample.author = 'teacher' AND verdict.outcome = 'correct' ORDER BY sample.question"""

SHARES_RIGHT = """
SELECT question, sum(correct) * 1.0 / sum(samples) AS pass_rate FROM (
    SELECT sample.question, count(*) AS samples, sum(verdict.outcome = 'correct') AS correct
    FROM sample JOIN verdict ON verdict.sample = sample.id
    WHERE sample.author = 'policy' AND sample.round BETWEEN ?1 AND ?2 GROUP BY sample.question
    UNION ALL SELECT question, samples, correct FROM archived_question WHERE round BETWEEN ?1 AND ?2)
GROUP BY question"""


def present_samples(store: Store, round_number: int, policy: int, style: str) -> set[tuple[int, int]]:
    """(question, index) of every sample that the policy wrote in this round and style."""
    return {(row[0], row[1]) for row in store.stream(PRESENT, round_number, policy, style)}


def count_unjudged_samples(store: Store, round_number: int) -> int:
    """The number of samples that still have to be judged."""
    count: int = store.value(f"SELECT count(*) FROM ({UNJUDGED})", round_number, 0, -1)
    return count


def unjudged_samples(store: Store, round_number: int, after: int, limit: int) -> list[sqlite3.Row]:
    """The first `limit` samples of a round with an id above `after` and no verdict, whose question has an answer."""
    return store.rows(UNJUDGED, round_number, after, limit)


def samples_of_question(store: Store, round_number: int, question: int) -> list[sqlite3.Row]:
    """The policy's samples of a question in one round, by index, with their verdicts, if any."""
    return store.rows(OF_QUESTION, round_number, question)


def cold_start_rationales(store: Store) -> list[sqlite3.Row]:
    """(question, token_ids) of the teacher's right chains of round 0; the ids are packed."""
    return store.rows(RATIONALES)


def pass_rates(store: Store, first_round: int, last_round: int) -> dict[int, float]:
    """Question -> share of the policy's judged samples that are right, over the rounds from first to last."""
    return {row["question"]: row["pass_rate"] for row in store.stream(SHARES_RIGHT, first_round, last_round)}


def mean_sample_bytes(store: Store) -> float:
    """The mean size of the latest samples' texts and token ids; 0 where there are none."""
    latest = "SELECT text, token_ids FROM sample WHERE id > (SELECT max(id) FROM sample) - 500"
    mean: float | None = store.value(f"SELECT avg(length(CAST(text AS BLOB)) + length(token_ids)) FROM ({latest})")
    return mean or 0.0
