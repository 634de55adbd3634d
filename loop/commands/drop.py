"""`drop`: takes questions out of a run, or puts them back."""

from __future__ import annotations

import json
from pathlib import Path

import click

from loop.commands.options import ROW_ID, run_dir_argument
from loop.errors import InputError
from store import StoreError, open_store


@click.command()
@run_dir_argument
@click.argument("ids", metavar="ID...", type=ROW_ID, nargs=-1, required=True)
@click.option("--reason", metavar="TEXT", help="Why; kept with the question.")
@click.option("--undo", is_flag=True, help="Put them back, whatever made them unusable.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def drop(run_dir: Path, ids: tuple[int, ...], reason: str | None, undo: bool, as_json: bool) -> None:
    """Take questions out of a run, also while it runs: they are not drawn, evaluated or trained on anew.

    Their rows are kept. A round that has drawn one finishes with it. Both orders of a preference are dropped together.
    """
    from store.unusable import drawn_by_open_round, drop_questions, put_back_questions

    if undo and reason is not None:
        raise InputError("--reason is for taking questions out; leave it away with --undo")
    if not undo and not (reason or "").strip():
        raise InputError("give --reason TEXT: why the questions are taken out")
    store = open_store(run_dir, say=lambda line: click.echo(line, err=True))
    try:
        changed = put_back_questions(store, ids) if undo else drop_questions(store, ids, (reason or "").strip())
    except StoreError as error:
        raise InputError(str(error)) from error
    drawn = None if undo else drawn_by_open_round(store, changed)
    store.close()
    if as_json:
        number, questions = drawn or (None, [])
        done = "put_back" if undo else "dropped"
        click.echo(json.dumps({done: changed, "round": number, "drawn_by_round": questions}))
        return
    count = f"{len(changed):,} question{'' if len(changed) == 1 else 's'}"
    click.echo(f"{count} put back; they may be asked again" if undo else f"{count} dropped; --undo puts them back")
    if also := sorted(set(changed) - set(ids)):
        click.echo(f"with them the other questions of their units: {', '.join(map(str, also))}")
    if drawn is not None:
        click.echo(f"round {drawn[0]} has drawn {', '.join(map(str, drawn[1]))} and finishes with them")
