"""`import`: what other programs made: preference pairs for a run, or a trainer's completions to look at."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import click

from loop.commands.options import format_count, run_dir_argument, stored_config
from loop.errors import InputError
from loop.terminal.console import Console
from store import open_store, run_lock


@click.command("import")
@run_dir_argument
@click.argument("what", type=click.Choice(["pairs", "completions"]))
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--reward", "rewards", multiple=True, metavar="NAME", help="Of completions: a number that is summed.")
@click.option("--correct-from", type=float, metavar="X", help="The sum that counts as correct; 1 if left out.")
@click.option("--answer", metavar="COLUMN", help="Of completions: the column with the accepted answer.")
@click.option("--judge", metavar="NAME", help="The judge of completions without rewards, and of `rejudge`.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def import_(
    run_dir: Path,
    what: str,
    file: Path,
    rewards: tuple[str, ...],
    correct_from: float | None,
    answer: str | None,
    judge: str | None,
    as_json: bool,
) -> None:
    """Take in what another program made.

    `pairs`: preference pairs of a JSONL or Parquet FILE for a run; its next update trains on them too.

    `completions`: what TRL, verl or verifiers logged, a FILE or a folder of them, into a store of its own, to look at.
    """
    console = Console(quiet=as_json)
    if what == "completions":
        added, steps = _completions(run_dir, file, rewards, correct_from, answer, judge, console)
        said = f"{format_count(added, 'new completion', run_dir)}, of {steps:,} step{'' if steps == 1 else 's'}"
        click.echo(json.dumps({"imported": added, "steps": steps}) if as_json else said)
        return
    from loop.questions.import_pairs import import_pairs

    if rewards or answer or judge or correct_from is not None:
        raise InputError("--reward, --correct-from, --answer and --judge are for completions")
    with closing(open_store(run_dir, say=console.say)) as store:
        added = import_pairs(store, stored_config(store, run_dir), file, console)
    click.echo(json.dumps({"imported": added}) if as_json else format_count(added, "new pair", run_dir))


def _completions(
    run_dir: Path,
    file: Path,
    rewards: tuple[str, ...],
    correct_from: float | None,
    answer: str | None,
    judge: str | None,
    console: Console,
) -> tuple[int, int]:
    from loop.questions.import_completions import import_completions

    if not file.exists():
        raise InputError(f"{file}: there is no such file or folder")
    run_dir.mkdir(parents=True, exist_ok=True)
    with run_lock(run_dir), closing(open_store(run_dir, create=True, say=console.say)) as store:
        threshold = 1.0 if correct_from is None else correct_from
        return import_completions(store, file, console, rewards, threshold, answer, judge or "exact")
