"""`archive`: move old samples out of the store."""

from __future__ import annotations

import json
from pathlib import Path

import click

from loop.commands.options import run_dir_argument
from loop.terminal.console import Console
from store import open_store


@click.command()
@run_dir_argument
@click.option(
    "--older-than", type=click.IntRange(min=0), required=True, metavar="N", help="Rounds to leave as they are."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def archive(run_dir: Path, older_than: int, as_json: bool) -> None:
    """Move samples of rounds more than N behind the latest to Parquet files beside the store."""
    from store.maintenance.archive import archive_round, rounds_to_archive

    console = Console(quiet=as_json)
    store = open_store(run_dir, say=console.say)
    numbers, moved = rounds_to_archive(store, older_than), 0
    with console.bar("archiving", len(numbers), "round") as bar:
        for number in numbers:
            moved += archive_round(store, number)
            bar.update()
    store.close()
    say = f"{moved:,} samples of {len(numbers)} rounds moved to {run_dir / 'archive'}"
    click.echo(json.dumps({"rounds": numbers, "samples": moved}) if as_json else say)
