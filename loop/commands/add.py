"""`add`: adds questions to a run."""

from __future__ import annotations

import json
from pathlib import Path

import click

from loop.commands.options import format_count, run_dir_argument, stored_config
from store import open_store


@click.command()
@run_dir_argument
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def add(run_dir: Path, file: Path, as_json: bool) -> None:
    """Add questions of a JSONL FILE to a run, also while it runs; the next round sees them."""
    from loop.questions.ingest import add_file
    from loop.terminal.console import Console

    console = Console(quiet=as_json)
    store = open_store(run_dir, say=console.say)
    added = add_file(store, stored_config(store, run_dir), file, console)
    store.close()
    click.echo(json.dumps({"added": added}) if as_json else format_count(added, "new question", run_dir))
