"""The console that a command's options and output ask for."""

import sys
from pathlib import Path

from loop.terminal.console import Console, EventConsole


def choose_console(run_dir: Path, rounds: int, *, quiet: bool, as_json: bool) -> Console:
    """Events, nothing, the live view, or plain lines: what `run` was asked for and its output can show."""
    if as_json:
        return EventConsole()
    if quiet or not sys.stdout.isatty():
        return Console(quiet=quiet)
    from loop.terminal.live_view import LiveConsole

    return LiveConsole(run_dir, rounds)
