"""`serve`: shows a run in the browser, live."""

from __future__ import annotations

import os
from pathlib import Path

import click

from loop.commands.options import run_dir_argument


@click.command()
@run_dir_argument
@click.option("--host", default="127.0.0.1", show_default=True, help="Where to listen; beyond loopback needs --token.")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="0 takes a free one.")
@click.option("--token", is_flag=True, help="Ask for a token: RATCHET_TOKEN if it is set, else a new one.")
def serve(run_dir: Path, host: str, port: int, token: bool) -> None:
    """Show a run in the browser, live. Reads only."""
    from loop.pages.serve import serve_run

    serve_run(run_dir, host, port, os.environ.get("RATCHET_TOKEN") if token else None, token, click.echo)
