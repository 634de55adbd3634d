"""Evaluations: greedy answers to held-out questions, chains sampled for best-of-K, and their verifier scores."""

import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from store.database import Store, now_s
from store.packing import pack_scores, pack_token_ids


@dataclass(frozen=True)
class NewEvaluation:
    """A policy's greedy answer to a held-out question, with its verdict.

    `tokens` is the number of tokens of `text`. `faithful` is None if the chain is not checked against the image.
    """

    policy: int
    split: str
    style: str
    question: int
    text: str
    tokens: int
    finish_reason: str
    faithful: bool | None
    judge: str
    judge_version: str
    extracted: str | None
    score: float
    outcome: str
    flags: str
    """A JSON list of texts."""


@dataclass(frozen=True)
class NewEvaluationSample:
    """One of the K chains sampled for a held-out question, with its verdict."""

    policy: int
    split: str
    style: str
    question: int
    index: int
    text: str
    token_ids: Sequence[int]
    finish_reason: str
    judge: str
    judge_version: str
    extracted: str | None
    score: float
    outcome: str
    flags: str
    """A JSON list of texts."""


@dataclass(frozen=True)
class NewVerifierScore:
    """Log-ratios of two policies for an evaluation sample, in nats, one per token; `reference` is the second policy."""

    sample: int
    reference: int
    token_scores: Sequence[float]


def add_evaluations(store: Store, evaluations: Iterable[NewEvaluation]) -> None:
    """Insert a batch; the caller's transaction decides when it is committed."""
    created = now_s()
    store.connection.executemany(
        "INSERT INTO evaluation (policy, split, style, question, text, tokens, finish_reason, faithful,"
        " judge, judge_version, extracted, score, outcome, flags, created)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (
                e.policy,
                e.split,
                e.style,
                e.question,
                e.text,
                e.tokens,
                e.finish_reason,
                e.faithful,
                e.judge,
                e.judge_version,
                e.extracted,
                e.score,
                e.outcome,
                e.flags,
                created,
            )
            for e in evaluations
        ],
    )


def add_evaluation_samples(store: Store, samples: Iterable[NewEvaluationSample]) -> None:
    """Insert a batch; the caller's transaction decides when it is committed."""
    store.connection.executemany(
        'INSERT INTO evaluation_sample (policy, split, style, question, "index", text, token_ids,'
        " finish_reason, judge, judge_version, extracted, score, outcome, flags)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (
                s.policy,
                s.split,
                s.style,
                s.question,
                s.index,
                s.text,
                pack_token_ids(s.token_ids),
                s.finish_reason,
                s.judge,
                s.judge_version,
                s.extracted,
                s.score,
                s.outcome,
                s.flags,
            )
            for s in samples
        ],
    )


def add_verifier_scores(store: Store, scores: Iterable[NewVerifierScore]) -> None:
    """Insert a batch, with the sum over the tokens; the caller's transaction decides when it is committed."""
    store.connection.executemany(
        "INSERT INTO verifier_score (sample, reference, score, token_scores) VALUES (?, ?, ?, ?)",
        [(s.sample, s.reference, sum(s.token_scores), pack_scores(s.token_scores)) for s in scores],
    )


UNSCORED = """
SELECT evaluation_sample.id, question, token_ids FROM evaluation_sample
LEFT JOIN verifier_score ON verifier_score.sample = evaluation_sample.id AND verifier_score.reference = ?2
WHERE policy = ?1 AND split = ?3 AND style = ?4 AND verifier_score.sample IS NULL
ORDER BY evaluation_sample.id"""

SCORED = """
SELECT question, extracted, outcome, verifier_score.token_scores FROM evaluation_sample
LEFT JOIN verifier_score ON verifier_score.sample = evaluation_sample.id AND verifier_score.reference = ?2
WHERE policy = ?1 AND split = ?3 AND style = ?4 AND "index" < ?5
ORDER BY question, "index" """

BEST_ACCEPTED = """
SELECT round.candidate_policy FROM round JOIN evaluation ON evaluation.policy = round.candidate_policy
WHERE round.decision = 'accepted' AND round.number < ? AND evaluation.split = ? AND style = ?
GROUP BY round.candidate_policy
ORDER BY avg(evaluation.outcome = 'correct') DESC, round.candidate_policy DESC LIMIT 1"""

# A policy whose evaluation was interrupted after few questions must not count as the best.
MOST_ACCURATE = """
WITH scored AS (SELECT policy, count(*) AS questions, avg(outcome = 'correct') AS accuracy
                FROM evaluation WHERE split = ? AND style = ? GROUP BY policy)
SELECT policy FROM scored WHERE 2 * questions > (SELECT max(questions) FROM scored)
ORDER BY accuracy DESC, policy LIMIT 1"""


def present_evaluations(store: Store, policy: int, split: str) -> set[tuple[int, str]]:
    """(question, style) of every greedy answer that the policy gave to a split."""
    rows = store.stream("SELECT question, style FROM evaluation WHERE policy = ? AND split = ?", policy, split)
    return {(row[0], row[1]) for row in rows}


def present_evaluation_samples(store: Store, policy: int, split: str, style: str) -> set[tuple[int, int]]:
    """(question, index) of every chain that was sampled for best-of-K."""
    rows = store.stream(
        'SELECT question, "index" FROM evaluation_sample WHERE policy = ? AND split = ? AND style = ?',
        policy,
        split,
        style,
    )
    return {(row[0], row[1]) for row in rows}


def greedy_outcomes(store: Store, policy: int, split: str, style: str) -> dict[int, bool]:
    """Question -> whether the policy's greedy answer is right."""
    rows = store.stream(
        "SELECT question, outcome = 'correct' AS correct FROM evaluation WHERE policy = ? AND split = ? AND style = ?",
        policy,
        split,
        style,
    )
    return {row["question"]: bool(row["correct"]) for row in rows}


UNITS = """
SELECT coalesce(kind, '') AS kind, count(*) AS units, sum(right = 2) AS correct,
       sum(right = 2 OR wrong = 2) AS consistent
FROM (SELECT unit, kind, sum(outcome = 'correct') AS right, sum(outcome = 'wrong') AS wrong
      FROM question JOIN evaluation ON evaluation.question = question.id
      WHERE unit IS NOT NULL AND policy = ? AND evaluation.split = ? AND style = ?
      GROUP BY unit, kind HAVING count(*) = 2)
GROUP BY 1 ORDER BY 1"""


def unit_figures(store: Store, policy: int, split: str, style: str) -> list[sqlite3.Row]:
    """Units that a policy answered in both orders, by kind ('' for none): number, right in both, consistent.

    A unit is consistent if both verdicts name the same candidate, right or wrong.
    """
    if store.row("SELECT 1 FROM question WHERE unit IS NOT NULL LIMIT 1") is None:
        return []
    return store.rows(UNITS, policy, split, style)


ANSWERS = """
SELECT lower(extracted) AS given, lower(json_extract(answers, '$[0]')) AS accepted, count(*) AS questions
FROM evaluation JOIN question ON question.id = evaluation.question
WHERE policy = ? AND evaluation.split = ? AND style = ? AND answers <> '[]' GROUP BY 1, 2"""


def count_answers(store: Store, policy: int, split: str, style: str) -> tuple[Counter[str], Counter[str]]:
    """For each answer: to how many questions of a split a policy gives it, and how many accept it first.

    In lower case. Unlabelled questions are left out; a missing answer counts as "".
    """
    given, accepted = Counter[str](), Counter[str]()
    for row in store.rows(ANSWERS, policy, split, style):
        given[row["given"] or ""] += row["questions"]
        accepted[row["accepted"] or ""] += row["questions"]
    return given, accepted


def unscored_samples(store: Store, policy: int, reference: int, split: str, style: str) -> Iterator[sqlite3.Row]:
    """(id, question, token_ids) of the policy's chains without a verifier score against `reference`; ids are packed."""
    return store.stream(UNSCORED, policy, reference, split, style)


def scored_samples(
    store: Store, policy: int, reference: int, split: str, style: str, samples: int
) -> Iterator[sqlite3.Row]:
    """(question, extracted, outcome, token_scores) of the first `samples` chains of every question, by index.

    `token_scores` is packed; None where a chain has no score against `reference`.
    """
    return store.stream(SCORED, policy, reference, split, style, samples)


def evaluation_samples(store: Store, policy: int, split: str, style: str, samples: int) -> Iterator[sqlite3.Row]:
    """(question, text, outcome) of the first `samples` chains of every question, by index."""
    return store.stream(
        "SELECT question, text, outcome FROM evaluation_sample WHERE policy = ? AND split = ? AND style = ?"
        ' AND "index" < ? ORDER BY question, "index"',
        policy,
        split,
        style,
        samples,
    )


def best_accepted_policy(store: Store, before: int, split: str, style: str) -> int | None:
    """The accepted policy of the rounds before this one that answers a split best; the latest among equals."""
    policy: int | None = store.value(BEST_ACCEPTED, before, split, style)
    return policy


def most_accurate_policy(store: Store, split: str, style: str) -> int | None:
    """The policy that answers a split best, accepted or not; the earliest among equals."""
    policy: int | None = store.value(MOST_ACCURATE, split, style)
    return policy
