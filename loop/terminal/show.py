"""`show`: prints records as JSON or on the terminal."""

import json
from pathlib import Path

import click

from loop.reading.records import Filters, find_record, list_records
from loop.terminal.escape import one_line
from store import Store

UNKNOWN_WIDTH = 200
"""The width of lines if the output is not a terminal."""


def print_list(store: Store, kind: str, filters: Filters, limit: int, width: int | None, *, as_json: bool) -> None:
    """Print a list of at most `limit` records; standard error says if there are more."""
    records, more = list_records(store, kind, filters, limit)
    if as_json:
        for record in records:
            click.echo(json.dumps(record))
    elif records:
        from loop.terminal.record_lists import list_table

        terminal = _terminal(width)
        terminal.print(list_table(kind, records, terminal.width))
    else:
        click.echo(f"no {kind} matches", err=True)
    if more:
        click.echo(f"there are more; the first {limit} are shown (--limit)", err=True)


def print_record(
    store: Store, kind: str, number: int, filters: Filters, folder: Path | None, width: int | None, *, as_json: bool
) -> None:
    """Print one record; its images are written to the folder, if one is named."""
    record = find_record(store, kind, number, filters)
    if as_json:
        click.echo(json.dumps(record))
    else:
        from loop.terminal.record_view import show_record

        show_record(_terminal(width), store, kind, record)
    if folder is not None:
        from loop.terminal.record_view import save_images

        for path in save_images(store, record, folder):
            click.echo(f"written: {one_line(path)}", err=True)


def _terminal(width: int | None):  # type: ignore[no-untyped-def]
    from rich.console import Console

    return Console(width=width or UNKNOWN_WIDTH, highlight=False, markup=False, emoji=False)
