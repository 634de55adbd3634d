"""`report`: writes a run as one HTML page."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

from loop.commands.options import open_to_read, run_dir_argument
from loop.terminal.console import Console


@click.command()
@run_dir_argument
@click.option(
    "-o", "--output", "file", default="report.html", show_default=True, metavar="FILE", type=click.Path(path_type=Path)
)
@click.option("--questions", type=click.IntRange(min=0), default=2_000, show_default=True, help="Kept at most.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def report(run_dir: Path, file: Path, questions: int, as_json: bool) -> None:
    """Write a run as one HTML page: curves, rounds, and questions with their chains. It needs no network."""
    from loop.pages.report import write_report

    store = open_to_read(run_dir)
    made = write_report(store, file, questions, Console(quiet=as_json))
    store.close()
    say = f"{file}: {made.questions:,} of {made.of:,} questions, {made.bytes / 1e6:.1f} MB"
    click.echo(json.dumps(asdict(made)) if as_json else say)
