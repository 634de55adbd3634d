"""Trackers of a finished run, in a directory of their own."""

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from loop.config.load import parse_config
from loop.config.schema import Config
from loop.trackers.feed import open_trackers, tell_trackers
from store import Store


def tracked_config(*names: str) -> Config:
    """A configuration that reports to these trackers."""
    tables: dict[str, Any] = {
        "policy": {"model": "m"},
        "questions": {"source": "easy_vqa"},
        "tracking": {"report_to": list(names)},
    }
    return parse_config(tables, "here")


def send_reports(run_dir: Path, store: Store, *names: str) -> None:
    """Send what one session would, to trackers that work in a directory of their own."""
    with ExitStack() as stack:
        moved = Store(store.connection, run_dir / "store.db")
        tell_trackers(moved, open_trackers(tracked_config(*names), moved, stack, pytest.fail), pytest.fail)
