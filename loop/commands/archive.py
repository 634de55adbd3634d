"""`archive`: moves old samples out of the store."""

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
@click.option("--to", "url", metavar="URL", help="A folder on object storage, s3://bucket/runs/demo, in place of DIR.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def archive(run_dir: Path, older_than: int, url: str | None, as_json: bool) -> None:
    """Move samples of rounds more than N behind the latest to Parquet files beside the store, or elsewhere."""
    from store.maintenance.archive import archive_round, rounds_to_archive
    from store.maintenance.archive_place import require_place

    console = Console(quiet=as_json)
    place = None if url is None else require_place(url)
    store = open_store(run_dir, say=console.say)
    numbers, moved = rounds_to_archive(store, older_than), 0
    with console.bar("archiving", len(numbers), "round") as bar:
        for number in numbers:
            moved += archive_round(store, number, place)
            bar.update()
    store.close()
    say = f"{moved:,} samples of {len(numbers)} rounds moved to {place or run_dir / 'archive'}"
    click.echo(json.dumps({"rounds": numbers, "samples": moved}) if as_json else say)
