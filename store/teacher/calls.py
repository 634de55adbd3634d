"""Teacher calls: one row per request, under the request's hash; prompts by the hash of their text."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from store.database import Store, now

OPEN = ("failed", "pending")
"""Statuses that a later answer replaces; every other one is final."""


@dataclass(frozen=True)
class TeacherCall:
    """One request to the teacher and its outcome.

    `status`: `answered`, `empty`, `refusal`, `content_filter`, `too_long`, `rejected` (final), `failed` (no
    answer after `attempts` tries) or `pending` (in the batch named by `batch`). `prompt` is the
    template's hash. `usage` says whether the tokens were `reported` or `estimated`; `cost_usd` is
    None if no price is known.
    """

    hash: str
    purpose: str
    round: int
    question: int
    model: str
    prompt: str | None
    status: str
    text: str = ""
    finish_reason: str = ""
    detail: str = ""
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    usage: str = "reported"
    cost_usd: float | None = 0.0
    attempts: int = 1
    batch: str | None = None


def add_calls(store: Store, calls: Iterable[TeacherCall]) -> None:
    """Insert a group, replacing rows that are still open; a final row is never changed.

    The caller's transaction decides when it is committed.
    """
    store.connection.executemany(
        "INSERT INTO teacher_call (hash, purpose, round, question, model, prompt, status, text, finish_reason, detail,"
        " prompt_tokens, cached_tokens, completion_tokens, usage, cost_usd, attempts, batch, created)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (hash) DO UPDATE SET purpose = excluded.purpose, round = excluded.round,"
        " question = excluded.question, status = excluded.status, text = excluded.text,"
        " finish_reason = excluded.finish_reason, detail = excluded.detail, prompt_tokens = excluded.prompt_tokens,"
        " cached_tokens = excluded.cached_tokens, completion_tokens = excluded.completion_tokens,"
        " usage = excluded.usage, cost_usd = excluded.cost_usd, attempts = attempts + excluded.attempts,"
        " batch = excluded.batch, created = excluded.created"
        f" WHERE teacher_call.status IN {OPEN}",
        [
            (
                c.hash,
                c.purpose,
                c.round,
                c.question,
                c.model,
                c.prompt,
                c.status,
                c.text,
                c.finish_reason,
                c.detail,
                c.prompt_tokens,
                c.cached_tokens,
                c.completion_tokens,
                c.usage,
                c.cost_usd,
                c.attempts,
                c.batch,
                now(),
            )
            for c in calls
        ],
    )


def call_status(store: Store, key: str) -> str | None:
    """The status of a request; None if it was never made."""
    status: str | None = store.value("SELECT status FROM teacher_call WHERE hash = ?", key)
    return status


def spent(store: Store, round_number: int | None = None) -> tuple[int, float]:
    """(requests, US dollars) of the run so far, or of one round; calls pending in a batch are not included.

    For the run, a request that was sent three times counts three times; for a round, once, because the earlier
    attempts may belong to another round.
    """
    row = store.row(
        "SELECT coalesce(sum(iif(?1 IS NULL, max(attempts, 1), 1)) FILTER (WHERE status <> 'pending'), 0) AS requests,"
        " coalesce(sum(cost_usd), 0.0) AS usd"
        " FROM teacher_call"
        " WHERE ?1 IS NULL OR round = ?1",
        round_number,
    )
    assert row is not None
    return row["requests"], row["usd"]


def prompt_hash(text: str) -> str:
    """The sha256 under which a prompt is stored."""
    return hashlib.sha256(text.encode()).hexdigest()


def add_prompts(store: Store, prompts: Iterable[tuple[str, str]]) -> None:
    """Store (name, text) of every prompt once, under its hash."""
    with store.transaction():
        store.connection.executemany(
            "INSERT OR IGNORE INTO prompt VALUES (?, ?, ?, ?)",
            [(prompt_hash(text), name, text, now()) for name, text in prompts],
        )


@dataclass(frozen=True)
class StoredBatch:
    """A batch of requests: its key, and the server's id once it has one."""

    key: str
    round: int
    purpose: str
    id: str | None


def plan_batch(store: Store, batch: StoredBatch, calls: Sequence[TeacherCall]) -> None:
    """Record a batch and its pending calls before it is sent, in one transaction."""
    with store.transaction():
        store.connection.execute(
            "INSERT INTO teacher_batch (key, round, purpose, created) VALUES (?, ?, ?, ?)",
            (batch.key, batch.round, batch.purpose, now()),
        )
        add_calls(store, calls)


def open_batches(store: Store) -> list[StoredBatch]:
    """Batches whose answers are not all in the store."""
    rows = store.rows("SELECT key, round, purpose, id FROM teacher_batch WHERE finished IS NULL ORDER BY created, key")
    return [StoredBatch(*row) for row in rows]


def pending_calls(store: Store, key: str) -> list[TeacherCall]:
    """The calls of a batch that have no outcome yet; `prompt_tokens` is the estimate they were planned with."""
    columns = "hash, purpose, round, question, model, prompt, status, prompt_tokens, batch"
    rows = store.rows(f"SELECT {columns} FROM teacher_call WHERE batch = ? AND status = 'pending'", key)
    return [TeacherCall(**dict(row), attempts=0) for row in rows]


def name_batch(store: Store, key: str, id_: str) -> None:
    """Record the server's id of a planned batch."""
    with store.transaction():
        store.connection.execute("UPDATE teacher_batch SET id = ? WHERE key = ?", (id_, key))


def drop_batch(store: Store, key: str) -> None:
    """Delete a batch that never reached the server: its requests were not made."""
    with store.transaction():
        store.connection.execute("DELETE FROM teacher_call WHERE batch = ? AND status = 'pending'", (key,))
        store.connection.execute("UPDATE teacher_call SET batch = NULL WHERE batch = ?", (key,))
        store.connection.execute("DELETE FROM teacher_batch WHERE key = ?", (key,))


def finish_batch(store: Store, key: str, reason: str) -> None:
    """Close a batch: requests without an answer have failed, for this reason."""
    with store.transaction():
        store.connection.execute(
            "UPDATE teacher_call SET status = 'failed', detail = ? WHERE batch = ? AND status = 'pending'",
            (reason, key),
        )
        store.connection.execute("UPDATE teacher_batch SET finished = ? WHERE key = ?", (now(), key))


REASONS = """
SELECT CASE WHEN teacher_call.status <> 'answered' THEN teacher_call.status
            WHEN verdict.outcome = 'correct' THEN 'kept'
            ELSE coalesce(verdict.outcome, 'not judged') END AS reason, count(*) AS calls
FROM teacher_call LEFT JOIN sample ON sample.teacher_call = hash AND sample.question = teacher_call.question
LEFT JOIN verdict ON verdict.sample = sample.id
WHERE teacher_call.round = ? GROUP BY reason ORDER BY reason"""


def count_reasons(store: Store, round_number: int) -> dict[str, int]:
    """A round's calls by result: `kept`, another outcome of the judge, or the reason why there was no answer."""
    return {row["reason"]: row["calls"] for row in store.rows(REASONS, round_number)}
