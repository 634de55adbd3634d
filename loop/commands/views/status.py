"""`status`: prints the state and progress of a run."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

import click

from loop.commands.options import open_to_read, run_dir_argument


@click.command()
@run_dir_argument
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def status(run_dir: Path, as_json: bool) -> None:
    """Print a run's state, progress and speed.

    The exit code tells: 0 running, 3 finished, 4 stopped ('run' continues it), 5 stale (its process died without a
    message, or gives no sign of life). 1 is a failure and 2 bad input, as in every command.
    """
    from loop.reading.run_status import run_status
    from loop.terminal.status_view import EXIT_CODES, format_status

    store = open_to_read(run_dir)
    state = run_status(store)
    click.echo(json.dumps(asdict(state)) if as_json else format_status(run_dir, store, state))
    store.close()
    sys.exit(EXIT_CODES[state.state])
