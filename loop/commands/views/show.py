"""`show`: prints any record of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from loop.commands.options import OUTCOMES, ROW_ID, open_to_read, run_dir_argument
from loop.errors import InputError
from loop.terminal.console import table_width


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
@click.option("--unusable", is_flag=True, help="Questions that are not asked any more, and why.")
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
    """Show records of a run: a list without an ID, one record in full with an ID.

    With --changed-since, --policy is the accepted policy by default.
    """
    from loop.reading.records import Filters
    from loop.terminal.show import print_list, print_record

    if number is None and save_images is not None:
        raise InputError("--save-images is for one record; give its ID")
    store = open_to_read(run_dir)
    if number is None:
        print_list(store, kind, Filters(**filters), limit, table_width(), as_json=as_json)
    else:
        print_record(store, kind, number, Filters(**filters), save_images, table_width(), as_json=as_json)
    store.close()
