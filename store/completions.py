"""Completions of another trainer, in a store that the views can read and that no run continues."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from store.database import Store
from store.rounds import Policy, add_policy, end_phase, mark_deleted, record_decision, start_round
from store.samples import NewSample, NewVerdict, add_samples, add_verdicts

MADE_BY = "imported"
"""The value of `policy.made_by` for weights that only the other trainer has."""

POLICY = 0
"""The number of the only policy of such a store: the log does not say which weights wrote which completion."""


@dataclass(frozen=True)
class NewCompletion:
    """One completion: the id of its question, its place among the step's completions of that question, its verdict.

    `rewards` are the numbers that the log gives beside it, by their column. `verdict` is judge, the judge's version,
    extracted answer, score, outcome and flags (a JSON list).
    """

    question: int
    index: int
    text: str
    finish_reason: str
    rewards: Mapping[str, float]
    verdict: tuple[str, str, str | None, float, str, str]


def is_imported(store: Store) -> bool:
    """Whether the store holds another trainer's completions."""
    return store.row("SELECT 1 FROM policy WHERE number = ? AND made_by = ?", POLICY, MADE_BY) is not None


def add_imported_policy(store: Store) -> None:
    """Record the policy to which all completions are attributed; its weights are not here."""
    add_policy(store, Policy(POLICY, None, MADE_BY, "", "", {}))
    mark_deleted(store, POLICY)


def has_round(store: Store, number: int) -> bool:
    """Whether the store has a round of this number."""
    return store.row("SELECT 1 FROM round WHERE number = ?", number) is not None


def add_step(store: Store, number: int, style: str, completions: Iterable[NewCompletion], source: str) -> None:
    """Store a training step as a finished round of this number, in one transaction; `source` names its file."""
    completions = list(completions)
    with store.transaction():
        questions = dict.fromkeys(completion.question for completion in completions)
        start_round(store, number, "judge", POLICY, list(questions))
        for each in completions:
            new = NewSample(
                number, each.question, "policy", POLICY, style, each.index, each.text, [], each.finish_reason
            )
            add_samples(store, [new])
            sample = store.value("SELECT last_insert_rowid()")
            add_verdicts(store, [NewVerdict(sample, *each.verdict)])
            store.connection.executemany(
                "INSERT INTO reward VALUES (?, ?, ?)", [(sample, name, value) for name, value in each.rewards.items()]
            )
        record_decision(store, number, "no_update", f"imported from {source}")
        end_phase(store, number, "judge", "done", 0.0)
