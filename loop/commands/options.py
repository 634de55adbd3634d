"""Shared parts of commands: the run argument, types of options, counts in words."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from loop.errors import InputError
from store import open_store
from store.lock import lock_holder

if TYPE_CHECKING:
    from loop.config.schema import Config
    from store import Store

OUTCOMES = ("correct", "wrong", "unparsable", "truncated", "judge_error")

ROW_ID = click.IntRange(0, 2**63 - 1)
"""The largest integer of SQLite."""

run_dir_argument = click.argument("run_dir", metavar="DIR", type=click.Path(path_type=Path, file_okay=False))


def stored_config(store: Store, run_dir: Path) -> Config:
    text = store.value("SELECT configuration FROM run")
    if text is None:
        raise InputError(f"{run_dir} has not been started; start it with 'run'")
    from loop.config.load import parse_config

    return parse_config(json.loads(text), str(run_dir))


def open_to_read(run_dir: Path) -> Store:
    """Open a run's store; one of an older version is upgraded first, if it is writable and no run works on it."""
    return open_store(run_dir, read_only=not os.access(run_dir, os.W_OK) or lock_holder(run_dir) is not None)


def format_count(count: int, noun: str, where: Path) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'} in {where}"
