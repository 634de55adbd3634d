"""How many rounds in a row ended without an accepted candidate."""

from itertools import takewhile

from store import Store
from store.rounds import recent_decisions


def rejections_before(store: Store, number: int) -> int:
    """How many rounds in a row were rejected just before this one; a round without an update says nothing."""
    return _since_accepted(store, number).count("rejected")


def rounds_without_gain(store: Store, number: int) -> int:
    """How many rounds just before this one ended without an accepted candidate."""
    return len(_since_accepted(store, number))


def _since_accepted(store: Store, number: int) -> list[str]:
    return list(takewhile(lambda decision: decision != "accepted", recent_decisions(store, number)))
