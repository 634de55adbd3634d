"""Trainings: settings and results of each candidate's update, and the loss at every step."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from store.database import Store, as_json
from store.rounds import Policy, add_policy


class NewTrainingStep(NamedTuple):
    """One optimizer step. `number` counts over all methods of a training; a figure that the method lacks is None."""

    number: int
    method: str
    loss: float
    learning_rate: float | None
    margin: float | None
    accuracy: float | None


@dataclass(frozen=True)
class NewTraining:
    """The training of a round's candidate. `recipe` and `metrics` have one table per method."""

    round: int
    recipe: Mapping[str, Any]
    items: int
    steps: int
    loss: float
    seconds: float
    metrics: Mapping[str, Any]
    curve: Sequence[NewTrainingStep]


def record_candidate(store: Store, policy: Policy, training: NewTraining) -> None:
    """Record a published policy, its training, and that it is the round's candidate, in one transaction."""
    with store.transaction():
        add_policy(store, policy)
        training_id = store.connection.execute(
            "INSERT INTO training (round, candidate, method, recipe, items, steps, loss, seconds, metrics)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                training.round,
                policy.number,
                policy.made_by,
                as_json(training.recipe),
                training.items,
                training.steps,
                training.loss,
                training.seconds,
                as_json(training.metrics),
            ),
        ).lastrowid
        store.connection.executemany(
            "INSERT INTO training_step VALUES (?, ?, ?, ?, ?, ?, ?)",
            [(training_id, *step) for step in training.curve],
        )
        store.connection.execute(
            "UPDATE round SET candidate_policy = ? WHERE number = ?", (policy.number, training.round)
        )
