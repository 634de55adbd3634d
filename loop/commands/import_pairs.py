"""`import`: preference pairs of other origin for a run."""

from __future__ import annotations

import json
from pathlib import Path

import click

from loop.commands.options import format_count, run_dir_argument, stored_config
from loop.terminal.console import Console
from store import open_store


@click.command("import")
@run_dir_argument
@click.argument("what", type=click.Choice(["pairs"]))
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def import_(run_dir: Path, what: str, file: Path, as_json: bool) -> None:
    """Take preference pairs of a JSONL or Parquet FILE into a run; its next update trains on them too."""
    from loop.questions.import_pairs import import_pairs

    console = Console(quiet=as_json)
    store = open_store(run_dir, say=console.say)
    config = stored_config(store, run_dir)
    added = import_pairs(store, config, file, console)
    store.close()
    click.echo(json.dumps({"imported": added}) if as_json else format_count(added, "new pair", run_dir))
