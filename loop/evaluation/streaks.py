"""How many rounds in a row ended without an accepted candidate."""

from itertools import takewhile

from store import Store

DECISIONS = "SELECT decision FROM round WHERE number > 0 AND number < ? AND decision IS NOT NULL ORDER BY number DESC"


def rejections_before(store: Store, number: int) -> int:
    """How many rounds in a row were rejected just before this one; a round without an update says nothing."""
    return _since_accepted(store, number).count("rejected")


def rounds_without_gain(store: Store, number: int) -> int:
    """How many rounds just before this one ended without an accepted candidate."""
    return len(_since_accepted(store, number))


def _since_accepted(store: Store, number: int) -> list[str]:
    decisions = (row["decision"] for row in store.rows(DECISIONS, number))
    return list(takewhile(lambda decision: decision != "accepted", decisions))
