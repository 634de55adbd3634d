"""`status`: a run's state on one screen."""

import shlex
from datetime import datetime
from pathlib import Path

import click

from loop.reading.accuracy_log import decision_in_short, log_rows, name_policy, trained_style
from loop.reading.run_status import Status, explain_state
from loop.reading.text import format_duration, format_memory
from loop.terminal.escape import one_line
from loop.terminal.log_table import CURVE_ROUNDS, TITLES, Row, sparkline
from store import Store
from store.teacher.calls import spent
from store.teacher.fallback import suspects

EXIT_CODES = {"running": 0, "finished": 3, "stopped": 4, "stale": 5}
"""Besides 1 for a failure and 2 for bad input, which every command has."""

COLOURS = {"running": "green", "finished": "blue", "stopped": "yellow", "stale": "red"}
BAR = 20
LABEL = 10
MENTIONED_AGE_S = 60
"""The age of the last item, in seconds, from which on it is shown."""


def format_status(run_dir: Path, store: Store, status: Status) -> str:
    """The run's state, progress and results so far."""
    state = click.style(status.state, fg=COLOURS[status.state], bold=True)
    lines = [f"{one_line(run_dir)}: {state}{one_line(explain_state(status))}"]
    if status.round is None:
        return "\n".join([*lines, "no round has started"])
    wanted = store.value("SELECT json_extract(configuration, '$.run.rounds') FROM run")
    rows = log_rows(store)
    show = f"show {shlex.quote(one_line(run_dir))}"
    of = f" of {wanted}" if wanted and wanted >= status.round else ""
    lines += [
        _label("round", f"{status.round}{of}, phase {status.phase}"),
        *([_label("progress", _progress(status))] if status.total or status.at_most else []),
        _label("best", _best(status, rows)),
        *_figures(rows[-1]),
        *_curve(rows, trained_style(store)),
        *_memory(rows[-1]),
        *_teacher(store, show),
        *_unusable(status, show),
        *_engines(status),
        _label("sessions", _sessions(status)),
    ]
    return "\n".join(lines)


def _label(label: str, text: str) -> str:
    return f"{label:{LABEL}}{text}"


def _best(status: Status, rows: list[Row]) -> str:
    assert status.serving_policy is not None
    text = name_policy(status.serving_policy, rows)
    if status.last_accepted_policy != status.serving_policy:
        text += f", by the gate's questions; rounds go on from policy {status.last_accepted_policy}"
    return text if status.candidate_policy is None else f"{text}, candidate policy {status.candidate_policy}"


def _progress(status: Status) -> str:
    assert status.done is not None
    if status.total is None:
        done = f"{status.done:,} of at most {status.at_most:,} answers"
    else:
        filled = round(BAR * status.done / status.total)
        done = f"{'█' * filled}{'░' * (BAR - filled)} {status.done:,} of {status.total:,}"
    speed = "" if status.per_second is None else f", {status.per_second:.1f} per second"
    left = "" if status.left_s is None else f", {format_duration(status.left_s)} left"
    old = status.age_s is not None and status.age_s > MENTIONED_AGE_S
    seen = f", the last {format_duration(status.age_s or 0)} ago" if old else ""
    return f"{done}{speed}{left}{seen}"


def _figures(row: Row) -> list[str]:
    if not row["samples"]:
        return []
    right = row["pass_rate"]
    if right is None:
        return [_label("samples", f"{row['samples']:,}, not judged yet")]
    shares = ", ".join(f"{100 * row[key]:.1f} % {key}" for key in ("unparsable", "truncated"))
    return [_label("samples", f"{row['samples']:,}, {100 * right:.1f} % right, {shares}")]


def _curve(rows: list[Row], style: str) -> list[str]:
    points = [row for row in rows if row["accuracy"][style]][-CURVE_ROUNDS:]
    if not points:
        return []
    last = points[-1]["accuracy"][style]
    interval = f"[{100 * last['low']:.1f}, {100 * last['high']:.1f}]"
    name = "the cold start" if points[-1]["round"] == 0 else f"round {points[-1]['round']}"
    decision = decision_in_short(points[-1]) or "not decided yet"
    curve = sparkline([row["accuracy"][style] for row in points])
    text = f"{TITLES[style]} {curve} {100 * last['accuracy']:.1f} % {interval} in {name} ({decision})"
    return [_label("held-out", text)]


def _memory(row: Row) -> list[str]:
    memory = format_memory(row["memory"])
    return [_label("GiB", memory)] if memory else []


def _teacher(store: Store, show: str) -> list[str]:
    requests, usd = spent(store)
    given_up = len(suspects(store))
    if not requests:
        return []
    suspect = f", {given_up} suspect questions ('{show} question --suspect')" if given_up else ""
    return [_label("teacher", f"{requests:,} requests, ${usd:.2f}{suspect}")]


def _unusable(status: Status, show: str) -> list[str]:
    if not status.unusable:
        return []
    return [_label("unusable", f"{status.unusable:,} questions, not asked ('{show} question --unusable')")]


def _engines(status: Status) -> list[str]:
    """One line per engine that is a separate process."""
    lines = []
    for engine in status.engines:
        serves = "no weights" if engine["sha256"] is None else f"policy {engine['policy']}"
        restarts = f", {engine['restarts']} restarts ({engine['note']})" if engine["restarts"] else ""
        text = (
            f"{engine['host']}, process {engine['pid']}: {engine['state']} {serves},"
            f" {engine['chains']:,} chains, {engine['tokens_per_s']:,.0f} tokens/s{restarts}"
        )
        lines.append(_label(f"engine {engine['number']}", one_line(text)))
    return lines


def _sessions(status: Status) -> str:
    if status.started is None:
        return "none"
    ended = "" if status.ended is None else f" to {_format_time(status.ended)} ({one_line(status.end_reason)})"
    return f"{status.sessions}, the last from {_format_time(status.started)}{ended}"


def _format_time(text: str) -> str:
    return f"{datetime.fromisoformat(text):%Y-%m-%d %H:%MZ}"
