"""Trackers: services that figures are sent to, by transformers' names of `report_to`. One tracker is one file.

A tracker gets each report once: a finished round, or the curve of an update.
"""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from loop.config.machine import TrackingConfig
from loop.errors import InputError

ROUND = "round"
GLOBAL_STEP = "train/global_step"
GROUPS = ("eval", "rollout", "teacher", "update", "gate", "time")
"""The groups in the names of a round's figures (before the slash); `train` is that of a curve."""


@dataclass(frozen=True)
class Report:
    """Points (x, figures by name) on one axis, `round` or `train/global_step`; `time` is in seconds since 1970.

    A tracker identifies a report by `name`; names sort in the order in which reports are made.
    """

    name: str
    axis: str
    points: tuple[tuple[int, dict[str, float]], ...]
    time: float


@dataclass(frozen=True)
class Target:
    """Facts of the run for a tracker: directory, project, name, unique id, configuration."""

    run_dir: Path
    project: str
    name: str
    id: str
    configuration: dict[str, Any]


class Tracker(Protocol):
    """A service that takes reports."""

    def has(self, name: str) -> bool:
        """Whether this report was sent, by any session."""

    def send(self, report: Report) -> None:
        """Send a report that was not sent before."""

    def close(self) -> None:
        """Close the tracker at the end of the session."""


def require_trackers(config: TrackingConfig) -> None:
    """Raise InputError for a tracker whose package is not installed."""
    for name in config.report_to:
        if importlib.util.find_spec(name) is None:
            raise InputError(
                f"tracking.report_to: {name!r} is not installed; install the extra 'trackers', or leave it out"
            )


def open_tracker(name: str, target: Target) -> Tracker:
    """The tracker of this name; raises InputError, naming it, if it cannot start."""
    try:
        return TRACKERS[name](target)
    except Exception as error:
        raise InputError(
            f"tracking.report_to: {name} cannot start ({type(error).__name__}: {error}); mend it, or leave it out"
        ) from error


def _tensorboard(target: Target) -> Tracker:
    from loop.trackers.tensorboard import TensorBoard

    return TensorBoard(target)


def _trackio(target: Target) -> Tracker:
    from loop.trackers.trackio import Trackio

    return Trackio(target)


def _wandb(target: Target) -> Tracker:
    from loop.trackers.wandb import Wandb

    return Wandb(target)


TRACKERS: dict[str, Callable[[Target], Tracker]] = {"tensorboard": _tensorboard, "trackio": _trackio, "wandb": _wandb}
