"""`run`: starts a run, or continues it."""

from __future__ import annotations

import json
import sys
from contextlib import closing, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from loop.commands.exits import INTERRUPTED
from loop.commands.options import open_to_read
from loop.errors import InputError
from loop.terminal.choose_console import choose_console

if TYPE_CHECKING:
    from loop.config.schema import Config


@click.command()
@click.option(
    "--config",
    metavar="NAME_OR_FILE",
    help="A name in configs/, or a TOML file. Without it a run keeps its own configuration.",
)
@click.option("--recipe", metavar="NAME_OR_FILE", help="A name in configs/recipes/, in place of the configuration's.")
@click.option("--run-dir", type=click.Path(path_type=Path), help="Where the run is kept.")
@click.option("--rounds", type=click.IntRange(min=0), help="Rounds in all; 0 continues until stopped.")
@click.option("--set", "overrides", multiple=True, metavar="A.B=VALUE", help="Override a configuration key.")
@click.option(
    "--dry-run",
    is_flag=True,
    help="Print the resolved configuration and the plan, and stop; exit code 2 if something is missing.",
)
@click.option("--yes", is_flag=True, help="Agree to a cold start above teacher.confirm_usd, or too little memory.")
@click.option("--profile", is_flag=True, help="Measure where the time goes: profile.md and profile.json in the run.")
@click.option("--quiet", is_flag=True, help="Print nothing but errors.")
@click.option("--json", "as_json", is_flag=True, help="Print events as JSON, one per line, as they happen.")
def run(
    config: str | None,
    recipe: str | None,
    run_dir: Path | None,
    rounds: int | None,
    overrides: tuple[str, ...],
    dry_run: bool,
    yes: bool,
    profile: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Start a run, or continue it from wherever it is."""
    from loop.trackers import require_trackers

    extra = [] if rounds is None else [f"run.rounds={rounds}"]
    resolved, own = _resolve(config, recipe, [*overrides, *extra], run_dir)
    if dry_run:
        resolved, begun = (resolved, False) if run_dir is None else _continued(resolved, own, run_dir)
        if as_json:
            click.echo(json.dumps(resolved.model_dump(mode="json")))
        else:
            _print_plan(resolved, run_dir or Path("runs"), begun=begun)
        return
    require_trackers(resolved.tracking)
    if run_dir is None:
        raise InputError("--run-dir is missing: name a directory to keep the run in")
    from loop.run_log import run_log

    # Messages of libraries while they are imported belong in run.log, too.
    with choose_console(run_dir, resolved.run.rounds, quiet=quiet, as_json=as_json) as console, run_log(run_dir):
        from loop.controller import run as run_rounds
        from loop.profiling import TABLE, TRACE, profiled
        from loop.session import Parts
        from loop.trackers.feed import observe_with_trackers

        parts = Parts(open_observer=observe_with_trackers)
        with profiled(run_dir) if profile else nullcontext() as measured:
            if measured is not None:
                parts = replace(parts, around_phase=measured.phase)
            finished = run_rounds(resolved, run_dir, console, set_by_user=own, agreed=yes, parts=parts)
        if profile:
            console.say(f"where the time went: {run_dir / TABLE}; open {run_dir / TRACE} in ui.perfetto.dev")
    if not finished:
        sys.exit(INTERRUPTED)


def _print_plan(config: Config, run_dir: Path, *, begun: bool) -> None:
    """Print the configuration and its plan; raises InputError if something is missing before it can run."""
    from loop.commands.dry_run import BEFORE, describe_plan, format_plan, what_is_missing

    plan = describe_plan(config, run_dir, begun=begun)
    click.echo(format_plan(config, plan))
    if lacking := what_is_missing(plan):
        raise InputError(f"{BEFORE}{'; '.join(lacking)}")


def _resolve(
    config: str | None, recipe: str | None, overrides: list[str], run_dir: Path | None
) -> tuple[Config, frozenset[str]]:
    """The configuration for the run, and its keys that the user set.

    Without a name or file it is the one in the run's store. Raises InputError if there is none.
    """
    from loop.config.load import keys_overridden, keys_set_by_user, load_config
    from loop.config.run_identity import stored_config_with
    from store.errors import NoRunError

    if config is not None:
        return load_config(config, overrides, recipe), keys_set_by_user(config, overrides, recipe)
    begin = "to start a run, write --config NAME_OR_FILE --run-dir DIR"
    if run_dir is None:
        raise InputError(f"--config and --run-dir are missing: {begin}; to continue one, write --run-dir DIR")
    if recipe is not None:
        raise InputError("--recipe needs --config: without it the run keeps its own recipe")
    try:
        with closing(open_to_read(run_dir)) as store:
            found = stored_config_with(store, overrides)
    except NoRunError:
        found = None
    if found is None:
        raise InputError(f"{run_dir} holds no run to continue; {begin}")
    return found, keys_overridden(overrides)


def _continued(config: Config, own: frozenset[str], run_dir: Path) -> tuple[Config, bool]:
    """The configuration that the run would use, and whether the directory holds a run with questions."""
    from loop.config.run_identity import as_begun, require_same
    from store.errors import NoRunError
    from store.questions import has_questions

    try:
        store = open_to_read(run_dir)
    except NoRunError:
        return config, False
    config, _ = as_begun(store, config, own)
    require_same(store, config)
    begun = has_questions(store)
    store.close()
    return config, begun
