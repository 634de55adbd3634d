"""Balance of a round's answers: the weight of pairs for and against each answer, and how often policies give it."""

from collections import Counter
from typing import Any

from store import Store
from store.evaluations import count_answers
from store.pairs import weigh_answers

MOST = 12
"""Number of answers that are shown, the commonest first."""

RECURS = 0.01
"""Smallest share of questions that accept an answer: rarer answers are left out."""


def answer_balance(store: Store, round_number: int, style: str, split: str) -> list[dict[str, Any]]:
    """The commonest answers of a round, one dictionary each; shares are of the evaluated questions.

    `accepted`: share of questions whose first accepted answer it is; `before` and `after`: share of questions to which
    the serving policy and the candidate give it; `chosen` and `rejected`: weight of the round's pairs for and against
    it.
    Empty if no candidate was evaluated, or no answer recurs.
    """
    state = store.row("SELECT serving_policy, candidate_policy FROM round WHERE number = ?", round_number)
    if state is None or state["candidate_policy"] is None:
        return []
    before, _ = count_answers(store, state["serving_policy"], split, style)
    after, accepted = count_answers(store, state["candidate_policy"], split, style)
    chosen, rejected = weigh_answers(store, round_number)
    return [
        {
            "answer": answer,
            "accepted": share,
            "before": before[answer] / before.total() if before else None,
            "after": after[answer] / after.total() if after else None,
            "chosen": chosen[answer],
            "rejected": rejected[answer],
        }
        for answer, share in _recurring(accepted)
    ]


def given_answers(store: Store, policy: int, style: str, split: str) -> dict[str, tuple[float, float]]:
    """The commonest answers, each with the shares of questions that accept it and to which a policy gives it."""
    given, accepted = count_answers(store, policy, split, style)
    return {answer: (share, given[answer] / given.total()) for answer, share in _recurring(accepted)}


def _recurring(accepted: Counter[str]) -> list[tuple[str, float]]:
    """Answers with the share of questions that accept them, the commonest first; ties in the order of their text."""
    asked = accepted.total()
    ordered = sorted(accepted.items(), key=lambda each: (-each[1], each[0]))
    return [(answer, count / asked) for answer, count in ordered[:MOST] if answer and count >= RECURS * asked]
