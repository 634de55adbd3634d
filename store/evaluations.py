"""Evaluations: greedy answers to held-out questions, chains sampled for best-of-K, and their verifier scores."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from store.database import Store, now_s
from store.samples import pack_token_ids
from store.token_scores import pack_scores


@dataclass(frozen=True)
class NewEvaluation:
    """A policy's greedy answer to a held-out question, with its verdict.

    `tokens` counts those of `text`. `faithful` is None where nobody checks the chain against the image.
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
    """Log-ratios of two policies for an evaluation sample, in nats, one a token; `reference` is the policy compared."""

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
