"""`export`: pairs or samples as a file."""

from __future__ import annotations

import json
from pathlib import Path

import click

from loop.commands.options import OUTCOMES, ROW_ID, format_count, open_to_read, run_dir_argument, stored_config
from loop.errors import InputError
from loop.terminal.console import Console


@click.command()
@run_dir_argument
@click.argument("what", type=click.Choice(["pairs", "samples"]))
@click.option("--format", "form", type=click.Choice(["jsonl", "parquet"]), help="Default: what FILE's ending says.")
@click.option("-o", "--output", "file", required=True, metavar="FILE", type=click.Path(path_type=Path))
@click.option("--round", "rounds", type=ROW_ID, multiple=True, help="Only this round; may be repeated.")
@click.option("--rule", "rules", multiple=True, help="Only pairs of this rule; may be repeated.")
@click.option(
    "--outcome",
    "outcomes",
    type=click.Choice(OUTCOMES),
    multiple=True,
    help="Only samples of this outcome; may be repeated.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def export(
    run_dir: Path,
    what: str,
    form: str | None,
    file: Path,
    rounds: tuple[int, ...],
    rules: tuple[str, ...],
    outcomes: tuple[str, ...],
    as_json: bool,
) -> None:
    """Write pairs in TRL's preference format, or samples as prompts and completions, images included."""
    from loop.reading.export import export_pairs, export_samples

    if form is None and file.suffix not in (".jsonl", ".parquet"):
        raise InputError(f"-o {file}: end it in .jsonl or .parquet, or give --format")
    if (rules and what == "samples") or (outcomes and what == "pairs"):
        raise InputError("--rule is for pairs, --outcome is for samples")
    store = open_to_read(run_dir)
    config, say = stored_config(store, run_dir), Console(quiet=as_json)
    form = form or file.suffix.removeprefix(".")
    if what == "pairs":
        written = export_pairs(store, config, file, form, rounds, rules, say)
    else:
        written = export_samples(store, config, file, form, rounds, outcomes, say)
    store.close()
    click.echo(json.dumps({"written": written}) if as_json else format_count(written, what.removesuffix("s"), file))
