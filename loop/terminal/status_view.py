"""`status` on one screen."""

from datetime import datetime
from pathlib import Path

import click

from loop.reading.accuracy_log import log_rows, trained_style
from loop.reading.run_status import Status
from loop.terminal.escape import one_line
from loop.terminal.log_table import CURVE_ROUNDS, TITLES, Row, duration, sparkline
from store import Store
from store.fallback import suspects
from store.teacher_calls import spent

EXIT_CODES = {"running": 0, "finished": 3, "stopped": 4, "stale": 5}
"""Beside 1 for a failure and 2 for bad input, which every command has."""

COLOURS = {"running": "green", "finished": "blue", "stopped": "yellow", "stale": "red"}
BAR = 20
LABEL = 10
OLD_S = 60
"""From so many seconds on the age of the last item is worth a word."""


def format_status(run_dir: Path, store: Store, status: Status) -> str:
    """What the run is doing, how far it is, and how it has gone so far."""
    lines = [f"{one_line(run_dir)}: {click.style(status.state, fg=COLOURS[status.state], bold=True)}{why(status)}"]
    if status.round is None:
        return "\n".join([*lines, "no round has started"])
    wanted = store.value("SELECT json_extract(configuration, '$.run.rounds') FROM run")
    rows = log_rows(store)
    of = f" of {wanted}" if wanted and wanted >= status.round else ""
    candidate = "" if status.candidate_policy is None else f", candidate policy {status.candidate_policy}"
    lines += [
        _labelled("round", f"{status.round}{of}, phase {status.phase}"),
        *([_labelled("progress", _progress(status))] if status.total else []),
        _labelled("serving", f"policy {status.serving_policy}{candidate}"),
        *_figures(rows[-1]),
        *_curve(rows, trained_style(store)),
        *_teacher(store),
        _labelled("sessions", _sessions(status)),
    ]
    return "\n".join(lines)


def _labelled(label: str, text: str) -> str:
    return f"{label:{LABEL}}{text}"


def why(status: Status) -> str:
    """In brackets or words: which process works on the run, or what ended it."""
    silent = "" if status.silent_s is None else f", last sign of life {duration(status.silent_s)} ago"
    if status.pid is not None:
        doing = f", {one_line(status.command)}" if status.command not in (None, "run") else ""
        return f" (process {status.pid}{doing}{silent})"
    if status.state == "stale":
        return f" (its process died without a word{silent}; 'run' goes on from there)"
    if status.state == "stopped" and status.end_reason not in (None, "stopped", "finished"):
        return f" by {one_line(status.end_reason)} ('run' goes on from there; run.log has the error)"
    return ""


def _progress(status: Status) -> str:
    assert status.done is not None
    assert status.total is not None
    share = status.done / status.total
    bar = "█" * round(BAR * share) + "░" * (BAR - round(BAR * share))
    speed = "" if status.per_second is None else f", {status.per_second:.1f} a second"
    left = "" if status.left_s is None else f", {duration(status.left_s)} left"
    old = status.age_s is not None and status.age_s > OLD_S
    seen = f", the last {duration(status.age_s or 0)} ago" if old else ""
    return f"{bar} {status.done:,} of {status.total:,}{speed}{left}{seen}"


def _figures(row: Row) -> list[str]:
    if not row["samples"]:
        return []
    right = row["pass_rate"]
    if right is None:
        return [_labelled("samples", f"{row['samples']:,}, not judged yet")]
    shares = ", ".join(f"{100 * row[key]:.1f} % {key}" for key in ("unparsable", "truncated"))
    return [_labelled("samples", f"{row['samples']:,}, {100 * right:.1f} % right, {shares}")]


def _curve(rows: list[Row], style: str) -> list[str]:
    points = [row for row in rows if row["accuracy"][style]][-CURVE_ROUNDS:]
    if not points:
        return []
    last = points[-1]["accuracy"][style]
    interval = f"[{100 * last['low']:.1f}, {100 * last['high']:.1f}]"
    name = "the cold start" if points[-1]["round"] == 0 else f"round {points[-1]['round']}"
    decision = points[-1]["decision"] or "not decided yet"
    curve = sparkline([row["accuracy"][style] for row in points])
    text = f"{TITLES[style]} {curve} {100 * last['accuracy']:.1f} % {interval} in {name} ({decision})"
    return [_labelled("held-out", text)]


def _teacher(store: Store) -> list[str]:
    requests, usd = spent(store)
    given_up = len(suspects(store))
    if not requests:
        return []
    suspect = f", {given_up} suspect questions ('show DIR question --suspect')" if given_up else ""
    return [_labelled("teacher", f"{requests:,} requests, ${usd:.2f}{suspect}")]


def _sessions(status: Status) -> str:
    if status.started is None:
        return "none"
    ended = "" if status.ended is None else f" to {_moment(status.ended)} ({one_line(status.end_reason)})"
    return f"{status.sessions}, the last from {_moment(status.started)}{ended}"


def _moment(text: str) -> str:
    return f"{datetime.fromisoformat(text):%Y-%m-%d %H:%MZ}"
