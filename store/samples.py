"""Samples and verdicts: every chain of thought and what was said of it."""

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


WIDTHS = (1, 2, 3, 4)
DEFLATED = 0x78
"""First byte of what earlier versions wrote: a zlib stream of 32-bit integers."""


def pack_token_ids(token_ids: Sequence[int]) -> bytes:
    """Little-endian integers as wide as the largest needs, after one byte that says how wide.

    Packed, not deflated: a chain is too short for deflate to save much, and it takes 60 times as long.
    """
    words = array.array("I", token_ids)
    if sys.byteorder == "big":
        words.byteswap()
    width = max(1, (max(words, default=0).bit_length() + 7) // 8)
    wide = words.tobytes()
    packed = bytearray(len(words) * width)
    for place in range(width):
        packed[place::width] = wide[place::4]
    return bytes([width]) + packed


def unpack_token_ids(blob: bytes) -> list[int]:
    """Inverse of `pack_token_ids`; reads what earlier versions wrote too. Raises StoreError if it is neither."""
    if blob[:1] == bytes([DEFLATED]):
        wide = bytearray(zlib.decompress(blob))
    elif blob and blob[0] in WIDTHS and (len(blob) - 1) % blob[0] == 0:
        width = blob[0]
        wide = bytearray((len(blob) - 1) // width * 4)
        for place in range(width):
            wide[place::4] = blob[1 + place :: width]
    else:
        raise StoreError("a sample's token ids are damaged; 'check' names what else is")
    words = array.array("I", bytes(wide))
    if sys.byteorder == "big":
        words.byteswap()
    return words.tolist()


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
