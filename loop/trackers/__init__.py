"""Where figures can be sent, by the names that transformers' `report_to` knows: one tracker is one file.

A tracker gets whole reports, each once: a round that is done, or the curve of an update.
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
"""What stands before the slash in the names of a round's figures; `train` before those of a curve."""


@dataclass(frozen=True)
class Report:
    """Points (x, figures by name) on one axis, `round` or `train/global_step`; `time` is in seconds since 1970.

    `name` is what a tracker remembers a report by; names sort in the order in which reports are made.
    """

    name: str
    axis: str
    points: tuple[tuple[int, dict[str, float]], ...]
    time: float


@dataclass(frozen=True)
class Target:
    """What a tracker is told of the run: where it lies, project, name, an id of its own, its configuration."""

    run_dir: Path
    project: str
    name: str
    id: str
    configuration: dict[str, Any]


class Tracker(Protocol):
    """Somewhere to send reports."""

    def has(self, name: str) -> bool:
        """Was this report sent, by whichever session?"""

    def send(self, report: Report) -> None:
        """Send a report that was not."""

    def close(self) -> None:
        """The session ends."""


def require_trackers(config: TrackingConfig) -> None:
    """Raise InputError for a tracker whose package is not installed."""
    for name in config.report_to:
        if importlib.util.find_spec(name) is None:
            raise InputError(
                f"tracking.report_to: {name!r} is not installed; install the extra 'trackers', or leave it out"
            )


def open_tracker(name: str, target: Target) -> Tracker:
    """The tracker of this name; raises InputError, naming it, where it cannot start."""
    opening: dict[str, Callable[[Target], Tracker]] = {
        "tensorboard": _tensorboard,
        "trackio": _trackio,
        "wandb": _wandb,
    }
    try:
        return opening[name](target)
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
