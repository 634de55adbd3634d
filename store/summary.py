"""A round's figures: summed once when it ends, so that a log of millions of samples stays quick."""

import sqlite3

from store.database import Store
from store.views_005 import COLUMNS, SUMMARY


def summarise_round(store: Store, number: int) -> None:
    """Write the figures of a round that ends; a round without samples of its own has none."""
    with store.transaction():
        store.connection.execute("DELETE FROM round_summary WHERE round = ?", (number,))
        store.connection.execute(
            f"INSERT INTO round_summary ({', '.join(COLUMNS)}) {SUMMARY}"
            " WHERE sample.author = 'policy' AND sample.round = ? GROUP BY sample.round",
            (number,),
        )


def round_figures(store: Store, number: int) -> sqlite3.Row | None:
    """Samples, questions, outcomes and tokens of a round: its summary, or counted now if it goes on."""
    return store.row("SELECT * FROM round_summary WHERE round = ?", number) or store.row(
        f"{SUMMARY} WHERE sample.author = 'policy' AND sample.round = ? GROUP BY sample.round", number
    )
