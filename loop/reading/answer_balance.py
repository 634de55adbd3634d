"""Answers of a round: for and against which its pairs are, and how often its policies give them."""

from collections import Counter
from typing import Any

from store import Store
from store.evaluations import count_answers
from store.pairs import weigh_answers

MOST = 12
"""Answers that are shown, the commonest first."""

RECURS = 0.01
"""An answer that is accepted for a smaller share of the questions says nothing about how often it is given."""


def answer_balance(store: Store, round_number: int, style: str, split: str) -> list[dict[str, Any]]:
    """The commonest answers of a round, one dictionary each; shares are of the questions that were evaluated.

    `accepted`: share of questions with it as first accepted answer; `before` and `after`: share that the serving
    policy and the candidate give it; `chosen` and `rejected`: weight of the round's pairs for and against it.
    Empty where no candidate was evaluated, or no answer recurs.
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
    """The commonest answers, each with the share of questions it is accepted for and the share a policy gives it."""
    given, accepted = count_answers(store, policy, split, style)
    return {answer: (share, given[answer] / given.total()) for answer, share in _recurring(accepted)}


def _recurring(accepted: Counter[str]) -> list[tuple[str, float]]:
    """Answers with the share they are accepted for, the commonest first; equal ones in the order of their text."""
    asked = accepted.total()
    ordered = sorted(accepted.items(), key=lambda each: (-each[1], each[0]))
    return [(answer, count / asked) for answer, count in ordered[:MOST] if answer and count >= RECURS * asked]
