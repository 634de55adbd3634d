"""Outputs of trained judges: one row for each judge (its weights' sha256) and request hash."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from store.database import Store, now_s

AT_ONCE = 500


@dataclass(frozen=True)
class JudgeCall:
    """One request to a trained judge and its output; `judge` is the sha256 of its weights."""

    judge: str
    hash: str
    question: int
    text: str
    finish_reason: str


def add_judge_calls(store: Store, calls: Iterable[JudgeCall]) -> None:
    """Insert a batch; existing answers are kept. The caller's transaction decides when it is committed."""
    created = now_s()
    store.connection.executemany(
        "INSERT OR IGNORE INTO judge_call VALUES (?, ?, ?, ?, ?, ?)",
        [(call.judge, call.hash, call.question, call.text, call.finish_reason, created) for call in calls],
    )


def judge_calls(store: Store, judge: str, hashes: Sequence[str]) -> dict[str, JudgeCall]:
    """The stored calls of a judge, by request hash."""
    found: dict[str, JudgeCall] = {}
    for start in range(0, len(hashes), AT_ONCE):
        part = hashes[start : start + AT_ONCE]
        places = ", ".join("?" * len(part))
        sql = (
            f"SELECT judge, hash, question, text, finish_reason FROM judge_call WHERE judge = ? AND hash IN ({places})"
        )
        found.update((row["hash"], JudgeCall(*row)) for row in store.rows(sql, judge, *part))
    return found
