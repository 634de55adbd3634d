"""Figures of a round and its policies, summed once when the round ends, so that the log of a large run is fast."""

import sqlite3

from store.database import Store
from store.schema.sums_007 import (
    ADD_COMPARISONS,
    ADD_EVALUATION_SUMS,
    COMPARISONS,
    EVALUATION_GROUPS,
    EVALUATION_SUMS,
    round_sums,
)
from store.schema.views_005 import COLUMNS


def summarise_round(store: Store, round_number: int) -> None:
    """Write the figures of a finished round; a round without samples has none."""
    with store.transaction():
        store.connection.execute("DELETE FROM round_summary WHERE round = ?", (round_number,))
        store.connection.execute(
            f"INSERT INTO round_summary ({', '.join(COLUMNS)}) {round_sums('= ?')}", (round_number,)
        )
        store.connection.execute(ADD_EVALUATION_SUMS)
        store.connection.execute(ADD_COMPARISONS)


def round_figures(store: Store, round_number: int) -> sqlite3.Row | None:
    """Samples, questions, outcomes and tokens of a round: its summary, or counted now if the round is not finished."""
    summary = store.row("SELECT * FROM round_summary WHERE round = ?", round_number)
    return summary or store.row(round_sums("= ?"), round_number)


def evaluation_figures(store: Store, policy: int, split: str, style: str) -> list[sqlite3.Row]:
    """Questions, outcomes, tokens and faithful chains of a policy's evaluation by kind of question ('' for none)."""
    of = "WHERE policy = ? AND {}split = ? AND style = ?"
    summary = f"SELECT * FROM evaluation_summary {of.format('')} ORDER BY kind"
    counted = f"{EVALUATION_SUMS} {of.format('evaluation.')} {EVALUATION_GROUPS} ORDER BY kind"
    return store.rows(summary, policy, split, style) or store.rows(counted, policy, split, style)


def compared(store: Store, policy: int, other: int, split: str, style: str) -> tuple[int, int, int]:
    """Numbers of questions that both answered, that only `policy` answers right, that only `other` does."""
    of = "policy = ? AND other = ? AND split = ? AND style = ?"
    kept = store.row(f"SELECT questions, gained, lost FROM comparison WHERE {of}", policy, other, split, style)
    return tuple(kept) if kept is not None else count_compared(store, policy, other, split, style)


def count_compared(store: Store, policy: int, other: int, split: str, style: str) -> tuple[int, int, int]:
    """The figures of `compared`, counted from the evaluations."""
    of = "new.policy = ? AND old.policy = ? AND split = ? AND style = ?"
    row = store.row(f"{COMPARISONS} WHERE {of}", policy, other, split, style)
    assert row is not None
    return row["questions"], row["gained"], row["lost"]
