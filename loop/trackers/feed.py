"""Reports for trackers: an update's curve once it is recorded, a round's figures once the round is done.

Both are read from the store, so a run that is tracked from its tenth round on also shows the first nine.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from datetime import datetime
from typing import Any

from loop.config.schema import Config
from loop.reading.accuracy_log import log_rows
from loop.reporting import Observer
from loop.trackers import GLOBAL_STEP, ROUND, Report, Target, Tracker, open_tracker
from store import Store
from store.database import as_json

ROLLOUT = (
    *("questions", "samples", "pass_rate", "pass_at_k", "majority", "vote_share"),
    *("unparsable", "truncated", "judge_errors", "flagged"),
)
TEACHER = ("teacher_asked", "teacher_kept", "teacher_usd", "fell_back", "fallback_solved", "suspects")
HELD_OUT = ("accuracy", "low", "high", "unparsable", "truncated", "tokens", "faithful")
DECISIONS = {"accepted": 1.0, "rejected": 0.0, "no_update": 0.0}

DONE = "SELECT number, finished FROM round WHERE phase = 'done' ORDER BY number"
UPDATES = """
SELECT training.id, training.round, policy.created, sum(training.steps) OVER (ORDER BY training.id) - training.steps
       AS steps_before
FROM training JOIN policy ON policy.number = training.candidate ORDER BY training.id"""


def observe_with_trackers(config: Config, store: Store, stack: ExitStack, say: Callable[[str], None]) -> Observer:
    """An observer that sends the trackers of `[tracking]` all reports that they do not have."""
    trackers = open_trackers(config, store, stack, say)
    return lambda store: tell_trackers(store, trackers, say)


def open_trackers(
    config: Config,
    store: Store,
    stack: ExitStack,
    say: Callable[[str], None],
    open_one: Callable[[str, Target], Tracker] = open_tracker,
) -> list[Tracker]:
    """The trackers of `[tracking]`, open until `stack` is left; a failure to close one is only reported."""
    row = store.row("SELECT configuration, created FROM run")
    assert row is not None
    run_dir, tracking = store.path.parent, config.tracking
    wanted = json.loads(row["configuration"])
    wanted["run"].pop("rounds")  # these may change within a run
    wanted.pop("cold_start")
    identity = hashlib.sha256(f"{row['created']} {as_json(wanted)}".encode()).hexdigest()[:16]
    name = tracking.name or run_dir.resolve().name
    target = Target(run_dir, tracking.project, name, identity, json.loads(row["configuration"]))
    trackers = [open_one(each, target) for each in tracking.report_to]
    for tracker in trackers:
        stack.callback(_close, tracker, say)
    return trackers


def _close(tracker: Tracker, say: Callable[[str], None]) -> None:
    try:
        tracker.close()
    except Exception as error:
        say(f"  {type(tracker).__name__} was not closed ({type(error).__name__}: {error}); the store has the figures")


def tell_trackers(store: Store, trackers: Sequence[Tracker], say: Callable[[str], None]) -> None:
    """Send every tracker the reports that it does not have, oldest first.

    A failure is only reported: a run of days must not end because a tracker is down.
    """
    wanted = {name for name in report_names(store) for tracker in trackers if not tracker.has(name)}
    if not wanted:
        return
    waiting = list(reports(store, wanted))
    for tracker in trackers:
        try:
            for report in waiting:
                if not tracker.has(report.name):
                    tracker.send(report)
        except Exception as error:
            say(f"  {type(tracker).__name__} was not told ({type(error).__name__}: {error}); the store has the figures")


def report_names(store: Store) -> list[str]:
    """The names of the reports that can be made now."""
    updates = [_name(row["round"], "1-update") for row in store.rows("SELECT round FROM training")]
    return sorted(updates + [_name(row["number"], "2-figures") for row in store.rows(DONE)])


def reports(store: Store, wanted: set[str]) -> Iterator[Report]:
    """The reports of these names, in order."""
    made = [_curve(store, row) for row in store.rows(UPDATES) if _name(row["round"], "1-update") in wanted]
    if any(name.endswith("figures") for name in wanted):
        ends = {row["number"]: _seconds(row["finished"]) for row in store.rows(DONE)}
        for row in log_rows(store):
            name = _name(row["round"], "2-figures")
            if name in wanted:
                made.append(Report(name, ROUND, ((row["round"], round_figures(row)),), ends[row["round"]]))
    yield from sorted(made, key=lambda report: report.name)


def _name(number: int, what: str) -> str:
    return f"{number:08d}-{what}"


def _seconds(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp()


def _curve(store: Store, update: Any) -> Report:
    """A curve's reports; steps count on over all updates of a run, those of rejected candidates included."""
    points = []
    for row in store.rows("SELECT * FROM training_step WHERE training = ? ORDER BY step", update["id"]):
        figures = {
            "train/loss": row["loss"],
            "train/learning_rate": row["learning_rate"],
            "train/rewards/margins": row["margin"],
            "train/rewards/accuracies": row["accuracy"],
        }
        points.append((update["steps_before"] + row["step"], _known(figures)))
    return Report(_name(update["round"], "1-update"), GLOBAL_STEP, tuple(points), _seconds(update["created"]))


def round_figures(row: dict[str, Any]) -> dict[str, float]:
    """A row of the accuracy log as flat figures; shares and accuracies are 0 to 1, missing figures are left out."""
    figures: dict[str, Any] = {f"rollout/{key}": row[key] for key in ROLLOUT} if row["samples"] else {}
    figures |= {f"teacher/{key.removeprefix('teacher_')}": row[key] for key in TEACHER}
    figures["update/pairs"] = row["pairs"]
    figures |= {"update/items": row["training_items"], "update/loss": row["training_loss"]}
    figures["gate/accepted"] = DECISIONS.get(row["decision"])
    figures |= {f"time/{phase}_s": seconds for phase, seconds in row["seconds"].items()}
    for style, accuracy in row["accuracy"].items():
        figures |= {f"eval/{style}/{key}": accuracy[key] for key in HELD_OUT} if accuracy else {}
    return _known(figures)


def _known(figures: dict[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in figures.items() if value is not None}
