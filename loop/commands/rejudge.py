"""`rejudge`: the past judged again."""

from __future__ import annotations

import json
from collections import Counter
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from loop.commands.options import run_dir_argument
from loop.terminal.console import Console, table_width
from store import open_store

if TYPE_CHECKING:
    from loop.evaluation.rejudge import Rejudged
    from store import Store
    from store.rejudged import Kind


@click.command()
@run_dir_argument
@click.option("--judge", "spec", metavar="NAME", help="A judge; each question's own, as it is now, if left out.")
@click.option("--limit", type=click.IntRange(min=0), default=20, show_default=True, help="How many are listed.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, every turned verdict and pair in it.")
def rejudge(run_dir: Path, spec: str | None, limit: int, as_json: bool) -> None:
    """Judge what a run has by another judge, and say which verdicts and pairs turn.

    Both are kept: the run's own verdicts decide as before, others are in the tables `rejudged` and
    `rejudged_evaluation`. Chains of finished rounds and answers to held-out questions are judged.
    """
    from loop.evaluation.rejudge import rejudge as judge_again
    from loop.evaluation.rejudge import turned_pair_records, turned_records
    from store.rejudged import EVALUATIONS, SAMPLES

    console = Console(quiet=as_json)
    with closing(open_store(run_dir, say=console.say)) as store:
        found = judge_again(store, spec, console)
        if as_json:
            turned = {
                f"turned_{kind.name}s": _dicts(turned_records(store, kind, found.judges))
                for kind in (SAMPLES, EVALUATIONS)
            }
            pairs = _dicts(turned_pair_records(store, found.judges))
            click.echo(json.dumps({**_counts(found), **turned, "turned_pairs": pairs}))
            return
        if not found.judges:
            click.echo("every verdict is of this judge and version already; nothing was judged")
            return
        click.echo("judged by " + ", ".join(f"{name} (version {version})" for name, version in sorted(found.judges)))
        for kind in (SAMPLES, EVALUATIONS):
            _print_turned(store, kind, found, limit)
        _print_pairs(store, found, limit)


def _dicts(rows: Any) -> list[dict[str, Any]]:
    return [dict(row) for row in rows]


def _counts(found: Rejudged) -> dict[str, Any]:
    judges = [{"judge": name, "version": version} for name, version in sorted(found.judges)]
    names = ("new", "same_judge", "unanswered")
    return {"judges": judges, **{name: dict(getattr(found, name)) for name in names}}


def _print_turned(store: Store, kind: Kind, found: Rejudged, limit: int) -> None:
    from loop.evaluation.rejudge import count_all, turned_records

    turns = Counter((row["before"], row["after"]) for row in turned_records(store, kind, found.judges))
    judged = count_all(store, kind, found.judges)
    said = ", ".join(f"{before} to {after} {count:,}" for (before, after), count in sorted(turns.items()))
    click.echo(f"{kind.name}s: {judged:,} verdicts, {turns.total():,} turn{f' ({said})' if said else ''}")
    if left := found.same_judge[kind.name]:
        click.echo(f"  {left:,} have a verdict of this judge and version already")
    if left := found.unanswered[kind.name]:
        click.echo(f"  {left:,} are of questions without an accepted answer")
    if rows := list(islice(turned_records(store, kind, found.judges), limit)):
        columns = ("id", "question", "before", "after", "answer_before", "answer")
        titles = {"answer_before": "answer before", "id": kind.name}
        _print_table([(titles.get(name, name), [row[name] for row in rows]) for name in columns])


def _print_pairs(store: Store, found: Rejudged, limit: int) -> None:
    from loop.evaluation.rejudge import turned_pair_records

    count = sum(1 for _ in turned_pair_records(store, found.judges))
    click.echo(f"pairs: {count:,} would not have been made")
    if rows := list(islice(turned_pair_records(store, found.judges), limit)):
        columns = ("id", "round", "rule", "chosen", "chosen_after", "rejected", "rejected_after")
        titles = {"id": "pair", "chosen_after": "chosen is", "rejected_after": "rejected is"}
        _print_table([(titles.get(name, name), [row[name] for row in rows]) for name in columns])


def _print_table(columns: list[tuple[str, list[Any]]]) -> None:
    from rich.console import Console as Terminal

    from loop.terminal.record_lists import make_table

    width = table_width()
    Terminal(width=width or 200).print(make_table(columns, width))
