"""Unusable questions: they stay in the store, with the reason in `question.unusable`, and are not asked any more.

They were too long, refused by the sampler, or taken out by the user. The questions of a unit go together.
"""

import sqlite3
from collections.abc import Collection, Iterable, Mapping

from store.database import Store, as_json
from store.errors import StoreError

WITH_UNIT = """
SELECT id FROM question WHERE id IN (SELECT value FROM json_each(?1)) OR unit IN (
    SELECT unit FROM question WHERE unit IS NOT NULL AND id IN (SELECT value FROM json_each(?1))) ORDER BY id"""


def mark_refused(store: Store, reasons: Mapping[int, str]) -> None:
    """Mark questions that the sampler refused, with the reason; the caller's transaction decides when it is committed.

    A question that is already unusable keeps its reason.
    """
    for question, reason in reasons.items():
        _set(store, "coalesce(unusable, ?)", reason, with_unit(store, [question]))


def drop_questions(store: Store, ids: Collection[int], reason: str) -> list[int]:
    """Take questions out, with the others of their units; returns all their ids.

    Raises StoreError, and changes nothing, for an id that no question has.
    """
    with store.transaction():
        dropped = _present_with_unit(store, ids)
        _set(store, "?", f"dropped: {reason}", dropped)
    return dropped


def put_back_questions(store: Store, ids: Collection[int]) -> list[int]:
    """Make questions and the others of their units usable again, whatever the reason; returns the ids that changed.

    Raises StoreError, and changes nothing, for an id that no question has.
    """
    with store.transaction():
        out = unusable_questions(store)
        back = [each for each in _present_with_unit(store, ids) if each in out]
        _set(store, "?", None, back)
    return back


def mark_units_of_unusable(store: Store, batch: int) -> None:
    """Make every question of a batch unusable whose unit has an unusable one, for the same reason."""
    store.connection.execute(
        "UPDATE question SET unusable = (SELECT other.unusable FROM question AS other"
        " WHERE other.unit = question.unit AND other.unusable IS NOT NULL LIMIT 1)"
        " WHERE batch = ? AND unit IS NOT NULL AND unusable IS NULL AND EXISTS (SELECT 1 FROM question AS other"
        " WHERE other.unit = question.unit AND other.unusable IS NOT NULL)",
        (batch,),
    )


def unusable_questions(store: Store) -> dict[int, str]:
    """Id -> reason of every unusable question."""
    rows = store.rows("SELECT id, unusable FROM question WHERE unusable IS NOT NULL ORDER BY id")
    return {row["id"]: row["unusable"] for row in rows}


def count_unusable(store: Store) -> int:
    """The number of unusable questions."""
    count: int = store.value("SELECT count(*) FROM question WHERE unusable IS NOT NULL")
    return count


def drawn_by_open_round(store: Store, ids: Collection[int]) -> tuple[int, list[int]] | None:
    """The round in progress and those of these questions that it has drawn; None if there are none."""
    rows: list[sqlite3.Row] = store.rows(
        "SELECT number, question FROM round JOIN round_question ON round_question.round = number"
        " WHERE phase <> 'done' AND question IN (SELECT value FROM json_each(?)) ORDER BY question",
        as_json(list(ids)),
    )
    return (rows[0]["number"], [row["question"] for row in rows]) if rows else None


def with_unit(store: Store, ids: Collection[int]) -> list[int]:
    """These ids, and those of the other questions of their units."""
    return [row["id"] for row in store.rows(WITH_UNIT, as_json(list(ids)))]


def _present_with_unit(store: Store, ids: Collection[int]) -> list[int]:
    present = with_unit(store, ids)
    if missing := sorted(set(ids) - set(present)):
        run_dir = store.path.parent
        raise StoreError(f"{run_dir} has no question {missing[0]}; 'show {run_dir} question' lists what there is")
    return present


def _set(store: Store, value: str, parameter: str | None, ids: Iterable[int]) -> None:
    store.connection.executemany(
        f"UPDATE question SET unusable = {value} WHERE id = ?", [(parameter, each) for each in ids]
    )
