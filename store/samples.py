"""Samples and verdicts: every chain of thought and what was said of it."""

from __future__ import annotations

import array
import sys
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from store.database import Store, StoreError, now_s


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


@dataclass(frozen=True)
class NewVote:
    """The vote of a question's samples: the answer that most of them give, and by how much it leads.

    `samples` is how many were counted; `share` and `margin` are in [0, 1]. `outcome` is the verdict on `answer`,
    None where no accepted answer is known.
    """

    round: int
    question: int
    answer: str | None
    samples: int
    share: float
    margin: float
    outcome: str | None


WIDTHS = {1: "B", 2: "H", 3: "I", 4: "I"}
"""The array that ids of so many bytes are read into; there is none of three bytes."""
DEFLATED = 0x78
"""First byte of what earlier versions wrote: a zlib stream of 32-bit integers."""


def pack_token_ids(token_ids: Sequence[int]) -> bytes:
    """Little-endian integers as wide as the largest needs, after one byte that says how wide.

    Packed, not deflated: a chain is too short for deflate to save much, and it takes 60 times as long.
    """
    width = max(1, (max(token_ids, default=0).bit_length() + 7) // 8)
    words = _little_endian(array.array(WIDTHS[width], token_ids)).tobytes()
    if width != 3:
        return bytes([width]) + words
    packed = bytearray(3 * len(token_ids))
    for place in range(3):
        packed[place::3] = words[place::4]
    return bytes([width]) + packed


def unpack_token_ids(blob: bytes) -> list[int]:
    """Inverse of `pack_token_ids`; reads what earlier versions wrote too. Raises StoreError if it is neither."""
    width, packed = blob[0] if blob else 0, blob[1:]
    if width == DEFLATED:
        return _little_endian(array.array("I", zlib.decompress(blob))).tolist()
    if width not in WIDTHS or len(packed) % width:
        raise StoreError("a sample's token ids are damaged; 'check' names what else is")
    if width == 3:
        wide = bytearray(len(packed) // 3 * 4)
        for place in range(3):
            wide[place::4] = packed[place::3]
        packed = bytes(wide)
    return _little_endian(array.array(WIDTHS[width], packed)).tolist()


def _little_endian(words: array.array[int]) -> array.array[int]:
    if sys.byteorder == "big":
        words.byteswap()
    return words


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
