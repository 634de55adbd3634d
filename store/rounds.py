"""Rounds, their phases, and the policies they serve and make."""

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from typing import Any

from store.database import Store, as_json, now
from store.errors import StoreError
from store.summary import summarise_round

GATE = "gate"
"""The split kept for the gate."""


@dataclass(frozen=True)
class Round:
    """A round's state; `serving_policy` samples, `candidate_policy` is the one that its update made."""

    number: int
    phase: str
    serving_policy: int
    candidate_policy: int | None
    decision: str | None


@dataclass(frozen=True)
class PhaseMemory:
    """Bytes of one phase on the host, above what the process held before its first model, and on the fullest card.

    None: not planned, or not measured.
    """

    planned_host: int | None
    before_host: int | None
    peak_host: int | None
    planned_card: int | None
    peak_card: int | None


@dataclass(frozen=True)
class Policy:
    """One set of weights. `probe` holds the learner's log-probabilities of the probe chains.

    A shrunk policy has two parents: its weights lie `alpha` of the way from `parent` to `other_parent`.
    """

    number: int
    parent: int | None
    made_by: str
    sha256: str
    path: str
    probe: dict[str, Any]
    other_parent: int | None = None
    alpha: float | None = None


def latest_round(store: Store) -> Round | None:
    """The round with the largest number."""
    row = store.row("SELECT * FROM round ORDER BY number DESC LIMIT 1")
    return None if row is None else _round(row)


def get_round(store: Store, round_number: int) -> Round:
    """Round by number; raises StoreError if there is none."""
    row = store.row("SELECT * FROM round WHERE number = ?", round_number)
    if row is None:
        raise StoreError(f"{store.path.parent} has no round {round_number}")
    return _round(row)


def _round(row: Any) -> Round:
    return Round(row["number"], row["phase"], row["serving_policy"], row["candidate_policy"], row["decision"])


def start_round(store: Store, round_number: int, phase: str, serving: int, questions: Sequence[int]) -> None:
    """Create a round with the questions it works on, in one transaction."""
    with store.transaction():
        store.connection.execute(
            "INSERT INTO round (number, phase, serving_policy, started) VALUES (?, ?, ?, ?)",
            (round_number, phase, serving, now()),
        )
        store.connection.executemany(
            "INSERT INTO round_question VALUES (?, ?, ?)",
            [(round_number, position, question) for position, question in enumerate(questions)],
        )


def end_phase(store: Store, round_number: int, phase: str, following: str, seconds: float) -> None:
    """Move a round from `phase` to `following`, and add the seconds of this session to the phase."""
    with store.transaction():
        add_phase_time(store, round_number, phase, seconds)
        store.connection.execute("UPDATE round SET phase = ? WHERE number = ?", (following, round_number))
        if following == "done":
            store.connection.execute("UPDATE round SET finished = ? WHERE number = ?", (now(), round_number))
            summarise_round(store, round_number)


def add_phase_time(store: Store, round_number: int, phase: str, seconds: float) -> None:
    """Add seconds to a phase; those of an interrupted phase add up over sessions."""
    store.connection.execute(
        "INSERT INTO phase_time VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET seconds = seconds + excluded.seconds",
        (round_number, phase, seconds),
    )


def record_phase_memory(store: Store, round_number: int, phase: str, memory: PhaseMemory) -> None:
    """Record a phase's memory; for an interrupted phase the session with the higher peak counts. The caller commits."""
    store.connection.execute(
        "INSERT INTO phase_memory VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET"
        " planned_host = excluded.planned_host, before_host = excluded.before_host, peak_host = excluded.peak_host,"
        " planned_card = excluded.planned_card, peak_card = excluded.peak_card"
        " WHERE coalesce(excluded.peak_host, 0) >= coalesce(phase_memory.peak_host, 0)",
        (round_number, phase, *astuple(memory)),
    )


def record_decision(
    store: Store,
    round_number: int,
    decision: str,
    reason: str,
    compared_with: int | None = None,
    *,
    candidate: int | None = None,
    best: int | None = None,
) -> None:
    """Record a round's decision, its reason, and the policy that the candidate was compared with, if any.

    `candidate` replaces the round's candidate by an accepted shrunk policy. `best` is the best accepted policy
    after the round; None keeps the one before it.
    """
    with store.transaction():
        store.connection.execute(
            "UPDATE round SET decision = ?, reason = ?, compared_with = ?, best_policy = ?,"
            " candidate_policy = coalesce(?, candidate_policy) WHERE number = ?",
            (decision, reason, compared_with, best, candidate, round_number),
        )


def recent_decisions(store: Store, before: int) -> list[str]:
    """The decisions of the rounds before this one, the latest first, without round 0 and open rounds."""
    rows = store.rows(
        "SELECT decision FROM round WHERE number > 0 AND number < ? AND decision IS NOT NULL ORDER BY number DESC",
        before,
    )
    return [row["decision"] for row in rows]


def has_gate_split(store: Store) -> bool:
    """Whether the run has questions that are kept for the gate."""
    return store.row("SELECT 1 FROM question WHERE split = ? AND batch = 0 LIMIT 1", GATE) is not None


def cold_start_trained(store: Store) -> bool:
    """Whether the cold start is trained."""
    past = "number > 0 OR candidate_policy IS NOT NULL OR phase NOT IN ('distil', 'update')"
    return store.row(f"SELECT 1 FROM round WHERE {past}") is not None


def get_policy(store: Store, policy_number: int) -> Policy:
    """Policy by number; raises StoreError if there is none."""
    row = store.row("SELECT * FROM policy WHERE number = ?", policy_number)
    if row is None:
        raise StoreError(f"{store.path.parent} has no policy {policy_number}")
    return Policy(
        row["number"],
        row["parent"],
        row["made_by"],
        row["sha256"],
        row["path"],
        json.loads(row["probe"]),
        row["other_parent"],
        row["alpha"],
    )


def served_last(store: Store) -> int:
    """The policy that was accepted last, from which the next round starts; 0, the base, before any was."""
    number: int | None = store.value(
        "SELECT candidate_policy FROM round WHERE decision = 'accepted' ORDER BY number DESC LIMIT 1"
    )
    return number or 0


def cold_start_policy(store: Store) -> int:
    """The policy that round 1 started from: the cold start's, or the base if it made none."""
    number: int | None = store.value("SELECT coalesce(candidate_policy, serving_policy) FROM round WHERE number = 0")
    return number or 0


def next_policy_number(store: Store) -> int:
    """The number that the next published policy gets."""
    last = store.value("SELECT max(number) FROM policy")
    return 0 if last is None else last + 1


def policy_path(number: int) -> str:
    """A published policy's directory, below the run's."""
    return f"policies/{number:04d}"


def policy_parents(store: Store) -> dict[int, set[int]]:
    """Policy -> its parents; none for the base model, two for a shrunk policy."""
    rows = store.rows("SELECT number, parent, other_parent FROM policy")
    return {number: {parent for parent in parents if parent is not None} for number, *parents in rows}


def shrunk_policy(store: Store, start: int, end: int, alpha: float) -> int | None:
    """The policy that lies `alpha` of the way from `start` to `end`, if it was made."""
    between = "parent = ? AND other_parent = ? AND alpha = ?"
    number: int | None = store.value(f"SELECT number FROM policy WHERE {between}", start, end, alpha)
    return number


def published_policies(store: Store) -> list[sqlite3.Row]:
    """(number, path, deleted) of the policies that the run made; `deleted` is when their weights were deleted."""
    return store.rows("SELECT number, path, deleted FROM policy WHERE made_by != 'base' ORDER BY number")


def add_policy(store: Store, policy: Policy) -> None:
    """Record a published policy; the caller's transaction decides when it is committed."""
    store.connection.execute(
        "INSERT INTO policy (number, parent, made_by, sha256, path, probe, other_parent, alpha, created)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            policy.number,
            policy.parent,
            policy.made_by,
            policy.sha256,
            policy.path,
            as_json(policy.probe),
            policy.other_parent,
            policy.alpha,
            now(),
        ),
    )


def is_deleted(store: Store, policy_number: int) -> bool:
    """Whether a policy's weights were deleted from the disk."""
    return store.value("SELECT deleted FROM policy WHERE number = ?", policy_number) is not None


def mark_deleted(store: Store, policy_number: int) -> None:
    """Record that a policy's weights are deleted from the disk; the policy stays in the lineage."""
    with store.transaction():
        store.connection.execute("UPDATE policy SET deleted = ? WHERE number = ?", (now(), policy_number))
