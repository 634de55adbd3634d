"""`log --follow`: one line of the log as each round finishes."""

import json
import time
from collections.abc import Iterator
from typing import Any

from loop.reading.accuracy_log import log_rows
from loop.terminal.log_table import COLUMNS, fit_columns, format_header, format_row, log_csv, with_base_row
from store import Store
from store.lock import lock_holder

POLL_S = 1.0


def follow(store: Store, form: str, width: int | None) -> Iterator[str]:
    """Lines in the form `table`, `json` or `csv`: finished rounds at once, then each round when it finishes."""
    columns = fit_columns(COLUMNS, width)
    if form == "table":
        yield format_header(columns, colour=True)
    for row in finished_rounds(store):
        if form == "json":
            yield json.dumps(row)
        elif form == "csv":
            yield log_csv([row], titles=row["round"] == 0).rstrip("\n")
        else:
            for each in with_base_row([row]) if row["round"] == 0 else [row]:
                yield format_row(each, columns, colour=True)


def finished_rounds(store: Store, poll_s: float = POLL_S) -> Iterator[dict[str, Any]]:
    """Each finished round's row; ends when no process works on the run. Reads only."""
    latest = -1
    while True:
        # Asked before the rows are read, so that rounds finished just before the process ended are included.
        running = lock_holder(store.path.parent) is not None
        # An unfinished round is left out: its figures would be summed anew each time.
        if store.value("SELECT 1 FROM round WHERE number > ? AND phase = 'done' LIMIT 1", latest):
            for row in log_rows(store, after=latest):
                if row["phase"] == "done":
                    latest = row["round"]
                    yield row
        if not running:
            return
        time.sleep(poll_s)
