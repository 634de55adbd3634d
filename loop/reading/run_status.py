"""What a run is doing now, how far it is and how fast: a few look-ups, however large the store."""

import json
import time
from dataclasses import dataclass
from typing import Any

from loop.evaluation.reported_styles import reported_styles
from loop.reading.text import format_duration
from store.database import Store, now_s
from store.gate import best_policy
from store.lock import lock_holder
from store.rounds import GATE, Round, latest_round

RECENT_ROWS = 8192
"""Rows over which the speed is taken."""
SILENT_S = 900
"""A process that holds the lock and has left no sign for so long is stale; a progress bar leaves two a minute."""
LOG_FILE = "run.log"
EVALUATED = "(SELECT candidate_policy FROM round WHERE number = ?1 UNION SELECT 0 WHERE ?1 = 0)"
"""The policies that a round evaluates: its candidate, the base model too in round 0."""


@dataclass(frozen=True)
class Status:
    """`done` of `total` items of the round's phase, None where a phase is a single step.

    `serving_policy` was accepted last; `candidate_policy` is the round's own while it is not decided.
    `state` is `running`, `finished`, `stopped` (by its user or by an error, `end_reason` says which) or `stale`: a
    process that gives no sign of life, or one that died without a word. `started`, `ended` and `end_reason` are those
    of the last session of `run`. `per_second` is the rate at which the last items were committed, None where nothing
    was timed; `age_s` says how long ago the last of them was. `pid` is the process that works on the run, None if none
    does, and `command` what it does there where it has said; `silent_s` is how long ago run.log grew.
    """

    pid: int | None
    round: int | None
    phase: str | None
    serving_policy: int | None
    candidate_policy: int | None
    done: int | None
    total: int | None
    per_second: float | None
    age_s: int | None
    state: str = "stopped"
    silent_s: int | None = None
    started: str | None = None
    ended: str | None = None
    end_reason: str | None = None
    sessions: int = 0
    command: str | None = None

    @property
    def left_s(self) -> float | None:
        """Seconds until the phase is through at this speed."""
        if self.per_second is None or self.total is None or self.done is None or self.pid is None:
            return None
        return (self.total - self.done) / self.per_second


def run_status(store: Store) -> Status:
    """The state of the latest round and of the latest session."""
    pid = lock_holder(store.path.parent)
    session = store.row("SELECT * FROM session WHERE command = 'run' ORDER BY id DESC LIMIT 1")
    round_, silent = latest_round(store), _seconds_since_log_grew(store)
    of_session: dict[str, Any] = {
        "state": _state(pid, silent, session, round_),
        "silent_s": silent,
        "sessions": store.value("SELECT count(*) FROM session WHERE command = 'run'"),
    }
    if pid is not None:
        doing = "SELECT command FROM session WHERE pid = ? AND ended IS NULL ORDER BY id DESC"
        of_session["command"] = store.value(doing, pid)
    if session is not None:
        of_session |= {key: session[key] for key in ("started", "ended", "end_reason")}
    if round_ is None:
        return Status(pid, None, None, None, None, None, None, None, None, **of_session)
    done, total = _progress(store, round_)
    speed, age = _speed(store, round_)
    candidate = None if round_.phase == "done" else round_.candidate_policy
    return Status(
        pid, round_.number, round_.phase, best_policy(store), candidate, done, total, speed, age, **of_session
    )


def explain_state(status: Status) -> str:
    """Why the run is in its state, to be put after it: the process at work, or what ended it. Not escaped."""
    silent = "" if status.silent_s is None else f", last sign of life {format_duration(status.silent_s)} ago"
    if status.pid is not None:
        doing = f", {status.command}" if status.command not in (None, "run") else ""
        return f" (process {status.pid}{doing}{silent})"
    if status.state == "stale":
        return f" (its process died without a word{silent}; 'run' goes on from there)"
    if status.state == "stopped" and status.end_reason not in (None, "stopped", "finished"):
        return f" by {status.end_reason} ('run' goes on from there; run.log has the error)"
    return ""


def _state(pid: int | None, silent: int | None, session: Any, round_: Round | None) -> str:
    if pid is not None:
        return "stale" if silent is not None and silent > SILENT_S else "running"
    if session is None:
        return "stopped"
    if session["ended"] is None:
        return "stale"
    through = round_ is not None and round_.phase == "done"
    return "finished" if through and session["end_reason"] == "finished" else "stopped"


def _seconds_since_log_grew(store: Store) -> int | None:
    """Seconds since run.log grew; a clock that was set back counts as just now."""
    file = store.path.parent / LOG_FILE
    return max(0, int(time.time() - file.stat().st_mtime)) if file.exists() else None


def _progress(store: Store, round_: Round) -> tuple[int | None, int | None]:
    questions = store.value("SELECT count(*) FROM round_question WHERE round = ?", round_.number)
    samples = "SELECT count(*) FROM sample WHERE round = ?"
    match round_.phase:
        case "distil":
            calls = "SELECT count(*) FROM teacher_call WHERE round = ? AND purpose = 'cold_start'"
            return store.value(calls, round_.number), questions
        case "sample":
            each = _configured(store, "sampling", "samples")
            return store.value(samples, round_.number), None if each is None else questions * each
        case "judge":
            unjudged = f"{samples} AND NOT EXISTS (SELECT 1 FROM verdict WHERE verdict.sample = sample.id)"
            total = store.value(samples, round_.number)
            return total - store.value(unjudged, round_.number), total
        case "evaluate":
            split, limit = _configured(store, "evaluation", "split"), _configured(store, "evaluation", "limit")
            reported = _at_most(limit, store.value("SELECT count(*) FROM question WHERE split = ?", split))
            of_gate = store.value("SELECT count(*) FROM question WHERE split = ? AND batch = 0", GATE)
            answered = f"SELECT count(*) FROM evaluation WHERE policy IN {EVALUATED} AND split IN (?, ?)"
            done = store.value(answered, round_.number, split, GATE)
            policies = 2 if round_.number == 0 else 1
            guarded = (
                [] if _configured(store, "gate", "rule") == "always" else _configured(store, "gate", "guard") or []
            )
            gate_styles = {_configured(store, "sampling", "style"), *guarded}
            decisive = _at_most(_configured(store, "gate", "limit"), of_gate)
            total = policies * len(reported_styles(store)) * reported + len(gate_styles) * decisive
            return min(done, total), total
    return None, None


def _at_most(limit: int | None, count: int) -> int:
    return count if limit is None else min(limit, count)


def _configured(store: Store, table: str, key: str) -> Any:
    text = store.value("SELECT configuration FROM run")
    return None if text is None else json.loads(text).get(table, {}).get(key)


def _speed(store: Store, round_: Round) -> tuple[float | None, int | None]:
    match round_.phase:
        case "sample":
            recent = "SELECT created FROM sample WHERE round = ? ORDER BY id DESC LIMIT ?"
            key = round_.number
        case "evaluate" if round_.candidate_policy is not None:
            recent = f"SELECT created FROM evaluation WHERE policy IN {EVALUATED} ORDER BY id DESC LIMIT ?"
            key = round_.number
        case _:
            return None, None
    times = [row["created"] for row in store.rows(recent, key, RECENT_ROWS) if row["created"] is not None]
    if not times:
        return None, None
    # The rows of one commit share a moment: those of the earliest commit were made before it, so they do not count.
    # A clock that was set back leaves no span to divide by.
    committed, seconds = sum(time > min(times) for time in times), max(times) - min(times)
    return (committed / seconds if seconds > 0 else None), max(0, now_s() - max(times))
