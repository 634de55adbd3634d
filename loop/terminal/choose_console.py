"""Chooses the console for a command's options and output."""

import sys
from pathlib import Path

from loop.terminal.console import Console, EventConsole


def choose_console(run_dir: Path, rounds: int, *, quiet: bool, as_json: bool) -> Console:
    """The console of `run`: events, nothing, the live view or plain lines, by its options and its output."""
    if as_json:
        return EventConsole()
    if quiet or not sys.stdout.isatty():
        return Console(quiet=quiet)
    from loop.terminal.live_view import LiveConsole

    return LiveConsole(run_dir, rounds)
