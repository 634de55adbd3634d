"""`log`: prints the accuracy log."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from loop.commands.options import open_to_read, run_dir_argument
from loop.errors import InputError
from loop.terminal.console import table_width
from loop.terminal.escape import one_line

if TYPE_CHECKING:
    from store import Store


@click.command()
@run_dir_argument
@click.option("--follow", is_flag=True, help="A line whenever a round has finished, until the run ends.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per round and line.")
@click.option("--csv", "as_csv", is_flag=True, help="CSV with every column of the widest table.")
def log(run_dir: Path, follow: bool, as_json: bool, as_csv: bool) -> None:
    """Print the accuracy log: one row per round, as wide as the terminal (or COLUMNS)."""
    from loop.reading.accuracy_log import log_rows
    from loop.terminal.log_table import format_log, log_csv

    if as_json and as_csv:
        raise InputError("--json and --csv are two formats; give one")
    store = open_to_read(run_dir)
    if follow:
        _follow(store, as_json=as_json, as_csv=as_csv)
    elif as_json:
        for row in log_rows(store):
            click.echo(json.dumps(row))
    elif as_csv:
        click.echo(log_csv(log_rows(store)), nl=False)
    else:
        click.echo(format_log(store, table_width(), colour=True))
    store.close()


def _follow(store: Store, *, as_json: bool, as_csv: bool) -> None:
    from loop.reading.run_status import explain_state, run_status
    from loop.terminal.follow import follow

    try:
        for line in follow(store, "json" if as_json else "csv" if as_csv else "table", table_width()):
            click.echo(line)
    except KeyboardInterrupt:
        return
    status = run_status(store)
    if status.state != "finished":
        click.echo(f"the run is {status.state}{one_line(explain_state(status))}", err=True)
