"""Samples and verdicts: every chain of thought and what was said of it."""

import array
import sys
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from store.database import Store


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
    """What a judge said of a stored sample."""

    sample: int
    judge: str
    judge_version: str
    extracted: str | None
    score: float
    outcome: str
    flags: str = "[]"
    """A JSON list of texts."""


def pack_token_ids(token_ids: Sequence[int]) -> bytes:
    """Little-endian unsigned 32-bit integers, deflated."""
    packed = array.array("I", token_ids)
    if sys.byteorder == "big":
        packed.byteswap()
    return zlib.compress(packed.tobytes())


def unpack_token_ids(blob: bytes) -> list[int]:
    """Inverse of `pack_token_ids`."""
    packed = array.array("I", zlib.decompress(blob))
    if sys.byteorder == "big":
        packed.byteswap()
    return packed.tolist()


def add_samples(store: Store, samples: Iterable[NewSample]) -> None:
    """Insert a batch; the caller's transaction decides when it is committed."""
    store.db.conn.executemany(
        'INSERT INTO sample (round, question, author, policy, style, "index", seed, temperature, text,'
        " token_ids, tokens, logprob, finish_reason, teacher_call) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
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
            )
            for s in samples
        ],
    )


def add_verdicts(store: Store, verdicts: Iterable[NewVerdict]) -> None:
    """Insert a batch; the caller's transaction decides when it is committed."""
    store.db.conn.executemany(
        "INSERT INTO verdict (sample, judge, judge_version, extracted, score, outcome, flags)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        [(v.sample, v.judge, v.judge_version, v.extracted, v.score, v.outcome, v.flags) for v in verdicts],
    )
