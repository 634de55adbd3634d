"""`inspect`: what the model will see of a configuration's questions, before a run."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import click

from loop.terminal.console import Console, table_width

if TYPE_CHECKING:
    from loop.config.schema import Config
    from loop.evaluation.pass_rate import PassRate
    from loop.questions.inspection import Inspection
    from store import Store


@click.command("inspect")
@click.argument("config", metavar="CONFIG")
@click.option("--recipe", metavar="NAME_OR_FILE", help="A name in configs/recipes/, in place of the configuration's.")
@click.option("--set", "overrides", multiple=True, metavar="A.B=VALUE", help="Override a configuration key.")
@click.option("--examples", type=click.IntRange(min=0), default=2, show_default=True, help="Prompts of each split.")
@click.option("--sample", type=click.IntRange(min=1), metavar="N", help="Also sample N questions from the model.")
@click.option("--html", type=click.Path(path_type=Path), metavar="FILE", help="Also write an HTML page with pictures.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def inspect_(
    config: str,
    recipe: str | None,
    overrides: tuple[str, ...],
    examples: int,
    sample: int | None,
    html: Path | None,
    as_json: bool,
) -> None:
    """Show what the model will see: prompts, tokens of text and images, answers; how often it is right with --sample.

    CONFIG is a name in configs/, or a TOML file. The questions are read into a temporary directory.
    """
    from loop.config.load import load_config
    from loop.reading.export import require_writable

    if html is not None:
        require_writable(html, "--html")
    resolved = load_config(config, list(overrides), recipe)
    with TemporaryDirectory(prefix="ratchet-inspect-") as folder:
        console = Console(quiet=as_json)
        _look(resolved, Path(folder), config, examples, sample, html, console, as_json=as_json)


def _look(
    config: Config,
    run_dir: Path,
    name: str,
    examples: int,
    sample: int | None,
    html: Path | None,
    console: Console,
    *,
    as_json: bool,
) -> None:
    from functools import cache, partial

    from loop.config.run_identity import record_run
    from loop.questions.ingest import ingest
    from loop.questions.inspection import inspect_questions
    from loop.questions.registry import SOURCES
    from loop.session import Parts, open_encoder, work_on

    config = _as_looked_at(config)
    with work_on(run_dir, create=True) as store:
        record_run(store, config)
        make_encoder = cache(partial(open_encoder, store, config, Parts()))
        ingest(store, config, SOURCES[config.questions.source], console, make_encoder)
        found = inspect_questions(store, config, make_encoder(), examples, console)
        rate = None if sample is None else _sampled(store, config, run_dir, sample, console)
        if as_json:
            click.echo(json.dumps({**found.as_json(), "pass_rate": None if rate is None else asdict(rate)}))
        else:
            _print(store, found, rate)
        if html is not None:
            from loop.pages.inspection import write_inspection

            size = write_inspection(store, html, name, config.policy.model, found, rate)
            console.say(f"{html}: {size / 1e3:,.0f} kB")


def _as_looked_at(config: Config) -> Config:
    """The configuration, with what is too long counted instead of refused; the teacher is not asked."""
    questions = config.questions.model_copy(update={"too_long": "skip"})
    teacher = config.teacher.model_copy(update={"enabled": False})
    return config.model_copy(update={"questions": questions, "teacher": teacher})


def _sampled(store: Store, config: Config, run_dir: Path, count: int, console: Console) -> PassRate:
    from loop.context import Stopped
    from loop.evaluation.pass_rate import sample_as_is
    from loop.session import Parts, open_session

    try:
        with open_session(store, config, run_dir, console, Parts(), "inspect") as (ctx, _):
            return sample_as_is(ctx, count)
    except Stopped:
        raise KeyboardInterrupt from None


def _print(store: Store, found: Inspection, rate: PassRate | None) -> None:
    from rich.console import Console as Terminal

    from loop.terminal.inspect_view import inspection_parts, pass_rate_parts
    from store.questions import image_bytes

    terminal = Terminal(width=table_width() or 160, highlight=False)
    for part in inspection_parts(terminal, found, lambda digest: image_bytes(store, digest)[0]):
        terminal.print(part)
    for part in pass_rate_parts(rate) if rate is not None else ():
        terminal.print(part)
