"""Trials of the gate in a round: the trained candidate, then shrunk ones, each against the best policy."""

import sqlite3
from collections import defaultdict
from dataclasses import astuple, dataclass

from store.database import Store, now
from store.rounds import served_last


@dataclass(frozen=True)
class GateTrial:
    """One candidate before the gate.

    `difference` is its score minus that of `compared_with` on the questions that both answered, in [-1, 1] for one
    style and wider with guarded ones; `error` is the standard error. `best`: it becomes the best policy.
    """

    policy: int
    compared_with: int
    questions: int
    difference: float
    error: float
    accepted: bool
    best: bool
    reason: str


def record_trial(store: Store, round_number: int, trial: GateTrial) -> None:
    """Record a trial and its outcome, in one transaction."""
    with store.transaction():
        store.connection.execute(
            "INSERT INTO gate_trial (round, policy, compared_with, questions, difference, error, accepted, best,"
            " reason, created) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (round_number, *astuple(trial), now()),
        )


def gate_trials(store: Store, round_number: int) -> list[GateTrial]:
    """The trials of a round, in order."""
    return [_trial(row) for row in store.rows("SELECT * FROM gate_trial WHERE round = ? ORDER BY policy", round_number)]


def trials_by_policy(store: Store) -> dict[int, list[tuple[int, GateTrial]]]:
    """The trials of every policy that the gate tested, each with its round, in the order of rounds."""
    found = defaultdict[int, list[tuple[int, GateTrial]]](list)
    for row in store.stream("SELECT * FROM gate_trial ORDER BY round, policy"):
        found[row["policy"]].append((row["round"], _trial(row)))
    return dict(found)


def _trial(row: sqlite3.Row) -> GateTrial:
    return GateTrial(
        row["policy"],
        row["compared_with"],
        row["questions"],
        row["difference"],
        row["error"],
        bool(row["accepted"]),
        bool(row["best"]),
        row["reason"],
    )


def trials_with_alpha(store: Store, round_number: int) -> list[tuple[GateTrial, float | None]]:
    """The trials of a round, in order, each with the alpha of its shrunk policy; None for the trained candidate."""
    made = "SELECT policy, alpha FROM gate_trial JOIN policy ON policy.number = policy WHERE round = ?"
    alphas = {row["policy"]: row["alpha"] for row in store.rows(made, round_number)}
    return [(trial, alphas[trial.policy]) for trial in gate_trials(store, round_number)]


def best_policy(store: Store) -> int:
    """The best accepted policy by the gate's questions: the policy that is served.

    0, the base, before any was accepted. For a run of a version that did not record it, the policy accepted last.
    """
    recorded = "SELECT best_policy FROM round WHERE best_policy IS NOT NULL ORDER BY number DESC LIMIT 1"
    number: int | None = store.value(recorded)
    return served_last(store) if number is None else number
