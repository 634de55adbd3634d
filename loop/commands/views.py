"""The commands that look at a run and change nothing: `log`, `status`, `check`, `show`, `export`, `report`, `serve`.

What a command needs is imported where it runs: all of these answer in well under a second.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from loop.commands.exits import FAILURE
from loop.commands.options import OUTCOMES, ROW_ID, counted, open_to_read, run_dir_argument, stored_config
from loop.errors import InputError
from loop.terminal.console import Console, table_width
from loop.terminal.escape import block
from store import open_store

if TYPE_CHECKING:
    from store import Store


@click.command()
@run_dir_argument
@click.option("--follow", is_flag=True, help="A line whenever a round has finished, until the run ends.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a round, one a line.")
@click.option("--csv", "as_csv", is_flag=True, help="CSV with every column of the widest table.")
def log(run_dir: Path, follow: bool, as_json: bool, as_csv: bool) -> None:
    """The accuracy log: a row a round, as wide as the terminal (or COLUMNS) is."""
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
    from loop.reading.run_status import run_status
    from loop.terminal.follow import follow
    from loop.terminal.status_view import why

    try:
        for line in follow(store, "json" if as_json else "csv" if as_csv else "table", table_width()):
            click.echo(line)
    except KeyboardInterrupt:
        return
    status = run_status(store)
    if status.state != "finished":
        click.echo(f"the run is {status.state}{why(status)}", err=True)


@click.command()
@run_dir_argument
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def status(run_dir: Path, as_json: bool) -> None:
    """What a run is doing now, how far it is, and how fast.

    The exit code tells: 0 running, 3 finished, 4 stopped (it can go on), 5 stale (its process died without a word, or
    gives no sign of life). 1 is a failure and 2 bad input, as everywhere.
    """
    from loop.reading.run_status import run_status
    from loop.terminal.status_view import EXIT_CODES, format_status

    store = open_to_read(run_dir)
    state = run_status(store)
    click.echo(json.dumps(asdict(state)) if as_json else format_status(run_dir, store, state))
    store.close()
    sys.exit(EXIT_CODES[state.state])


@click.command()
@run_dir_argument
@click.option("--json", "as_json", is_flag=True, help="One JSON object with the list of faults.")
def check(run_dir: Path, as_json: bool) -> None:
    """Verify the store and the weights on disk; exit code 1 if anything is wrong. Changes nothing."""
    from loop.commands.check import check_run

    store = open_store(run_dir, read_only=True)
    faults = check_run(store, run_dir, Console(quiet=as_json))
    store.close()
    if as_json:
        click.echo(json.dumps({"faults": faults}))
    else:
        click.echo(block("\n".join(faults)) if faults else f"{run_dir}: nothing wrong")
    if faults:
        sys.exit(FAILURE)


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
    click.echo(json.dumps({"written": written}) if as_json else counted(written, what.removesuffix("s"), file))


@click.command()
@run_dir_argument
@click.argument("kind", type=click.Choice(["question", "sample", "pair", "round", "policy"]))
@click.argument("number", metavar="[ID]", type=ROW_ID, required=False)
@click.option("--round", type=ROW_ID, metavar="N", help="Of this round.")
@click.option("--outcome", type=click.Choice(OUTCOMES), help="Judged so; of questions: by their vote.")
@click.option("--question", type=ROW_ID, metavar="ID", help="Of this question.")
@click.option("--policy", type=ROW_ID, metavar="N", help="Of this policy.")
@click.option("--rule", metavar="NAME", help="Pairs of this rule.")
@click.option("--suspect", is_flag=True, help="Questions that the teacher failed twice.")
@click.option(
    "--changed-since",
    type=ROW_ID,
    metavar="N",
    help="Held-out questions right under one of policy N and --policy only.",
)
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="How many are listed.")
@click.option(
    "--save-images", type=click.Path(path_type=Path), metavar="FOLDER", help="Write the record's images there."
)
@click.option("--json", "as_json", is_flag=True, help="JSON: a record a line.")
def show(
    run_dir: Path, kind: str, number: int | None, limit: int, save_images: Path | None, as_json: bool, **filters: Any
) -> None:
    """Look at what a run has: a list without an ID, one record with everything around it with one.

    --policy is the accepted one where --changed-since is given without it.
    """
    from loop.reading.records import Filters
    from loop.terminal.show import show_many, show_one

    if number is None and save_images is not None:
        raise InputError("--save-images is for one record; give its ID")
    store = open_to_read(run_dir)
    if number is None:
        show_many(store, kind, Filters(**filters), limit, table_width(), as_json=as_json)
    else:
        show_one(store, kind, number, Filters(**filters), save_images, table_width(), as_json=as_json)
    store.close()


@click.command()
@run_dir_argument
@click.option(
    "-o", "--output", "file", default="report.html", show_default=True, metavar="FILE", type=click.Path(path_type=Path)
)
@click.option("--questions", type=click.IntRange(min=0), default=10_000, show_default=True, help="Kept at most.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def report(run_dir: Path, file: Path, questions: int, as_json: bool) -> None:
    """Write a run as one HTML page: curves, rounds, and questions with their chains. It needs no network."""
    from loop.pages.report import write_report

    store = open_to_read(run_dir)
    made = write_report(store, file, questions, Console(quiet=as_json))
    store.close()
    say = f"{file}: {made.questions:,} of {made.of:,} questions, {made.bytes / 1e6:.1f} MB"
    click.echo(json.dumps(asdict(made)) if as_json else say)


@click.command()
@run_dir_argument
@click.option("--host", default="127.0.0.1", show_default=True, help="Where to listen; beyond loopback needs --token.")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="0 takes a free one.")
@click.option("--token", is_flag=True, help="Ask for a token: RATCHET_TOKEN if it is set, else a new one.")
def serve(run_dir: Path, host: str, port: int, token: bool) -> None:
    """Show a run in the browser as it goes on. Reads only."""
    from loop.pages.serve import serve_run

    serve_run(run_dir, host, port, os.environ.get("RATCHET_TOKEN") if token else None, token, click.echo)


VIEW_COMMANDS = (log, status, check, show, export, report, serve)
