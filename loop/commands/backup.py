"""`backup`: copies a run, also while it works."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import asdict
from pathlib import Path

import click

from loop.commands.options import open_to_read, run_dir_argument
from loop.terminal.console import Console


@click.command()
@run_dir_argument
@click.argument("target", metavar="TARGET_DIR", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def backup(run_dir: Path, target: Path, as_json: bool) -> None:
    """Write a run as it is now to a new directory, also while it runs; 'run --run-dir' continues from there.

    The store is copied whole. Weights are hard links if both directories are on one file system.
    """
    from loop.backup import back_up

    with closing(open_to_read(run_dir)) as store:
        made = back_up(store, run_dir, target, Console(quiet=as_json))
    if as_json:
        click.echo(json.dumps(asdict(made)))
        return
    at = "before its first round" if made.round is None else f"in round {made.round}"
    ways = [f"{count} files {how}" for count, how in ((made.linked, "linked"), (made.copied, "copied")) if count]
    click.echo(f"{run_dir} as it is {at} is in {target}: {made.policies} policies{''.join(f', {way}' for way in ways)}")
    if made.linked:
        click.echo("linked files are the run's own: for another disk, copy the backup there")
