"""The run's configuration, its sessions, and the policies that each session served."""

import json
import os
from collections.abc import Mapping
from typing import Any

from store.database import Store, as_json, now

REPLACED_WITH_THE_CONFIGURATION = (
    *("verifier_score", "evaluation_sample", "rejudged_evaluation", "evaluation", "swap"),
    *("policy", "question_image", "question", "image", "run"),
)
"""Tables that may have rows before the first round; referring tables first."""


def stored_configuration(store: Store) -> dict[str, Any] | None:
    """The recorded configuration; None before it is recorded."""
    text = store.value("SELECT configuration FROM run")
    return None if text is None else json.loads(text)


def record_configuration(
    store: Store, seed: int, configuration: Mapping[str, Any], packages: Mapping[str, str]
) -> None:
    """Record the run's configuration and package versions, in one transaction.

    Deletes the questions, policies and evaluations that belong to an earlier configuration. The caller makes sure
    that no round has started.
    """
    with store.transaction():
        for table in REPLACED_WITH_THE_CONFIGURATION:
            store.connection.execute(f"DELETE FROM {table}")
        store.connection.execute(
            "INSERT INTO run VALUES (1, ?, ?, ?, ?)", (seed, as_json(configuration), as_json(packages), now())
        )


def change_configuration(store: Store, changes: Mapping[str, Any]) -> None:
    """Set single keys ("run.rounds") of the recorded configuration, in one transaction."""
    with store.transaction():
        for key, value in changes.items():
            store.connection.execute(
                "UPDATE run SET configuration = json_set(configuration, ?, json(?))", (f"$.{key}", as_json(value))
            )


def begin_session(store: Store, command: str, numerics: Mapping[str, Any]) -> int:
    """Record that this process runs a command, and its numerics; returns the session's id."""
    with store.transaction():
        session = store.connection.execute(
            "INSERT INTO session (pid, command, started, numerics) VALUES (?, ?, ?, ?)",
            (os.getpid(), command, now(), as_json(numerics)),
        ).lastrowid
    assert session is not None
    return session


def end_session(store: Store, session: int, reason: str, peak_memory_bytes: int) -> None:
    """Record when and why a session ended."""
    with store.transaction():
        store.connection.execute(
            "UPDATE session SET ended = ?, end_reason = ?, peak_memory_bytes = ? WHERE id = ?",
            (now(), reason, peak_memory_bytes, session),
        )


def count_engine_start(store: Store, session: int) -> None:
    """Count one more start of the sampling engine in a session."""
    with store.transaction():
        store.connection.execute("UPDATE session SET engine_starts = engine_starts + 1 WHERE id = ?", (session,))


def add_swap(
    store: Store,
    session: int,
    round_number: int | None,
    policy: int,
    sha256: str,
    probe_difference: float,
    seconds: float,
) -> None:
    """Record that the sampler loaded a policy's weights and was proved to serve them.

    `probe_difference` is the largest one between sampler and learner, in nats per token. `round_number` is None
    outside a round.
    """
    with store.transaction():
        store.connection.execute(
            "INSERT INTO swap (session, round, policy, sha256, probe_difference, seconds, created)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            (session, round_number, policy, sha256, probe_difference, seconds, now()),
        )
