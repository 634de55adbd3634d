"""The status of a run: state, progress and speed, from a few queries that are fast in a store of any size."""

import time
from dataclasses import asdict, dataclass, field
from typing import Any

from loop.reading.phase_progress import phase_progress
from loop.reading.text import format_duration
from store.database import Store
from store.engines import latest_engines
from store.gate import best_policy
from store.lock import lock_holder
from store.rounds import Round, latest_round, served_last
from store.unusable import count_unusable

SILENT_S = 900
"""Seconds without any sign after which a process that holds the lock is stale; a progress bar gives two per minute."""
LOG_FILE = "run.log"


@dataclass(frozen=True)
class Status:
    """`done` of `total` items of the round's phase; None if a phase is a single step.

    Phase `gate` has no total, because it may end early: `at_most` is the largest number of answers of a candidate.
    `serving_policy` is the best accepted policy by the gate's questions, as in `DIR/policies/current`.
    `last_accepted_policy` is the one that the next round starts from, usually the same. `candidate_policy` is that of
    the unfinished round.
    `state` is `running`, `finished`, `stopped` (by its user or by an error; `end_reason` says which) or `stale`: the
    process gives no sign of life, or died without recording its end. `started`, `ended` and `end_reason` are those
    of the last session of `run`. `per_second` is the rate at which the last items were committed, None if nothing
    was timed; `age_s` is the age of the last of them. `pid` is the process that works on the run, None if none
    does, and `command` its command, if recorded; `silent_s` is the time since run.log grew.
    `unusable` counts the questions that are not asked any more. `engines` has the latest figures of engines that are
    separate processes: host, served policy, tokens per second, restarts.
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
    at_most: int | None = None
    last_accepted_policy: int | None = None
    unusable: int = 0
    engines: list[dict[str, Any]] = field(default_factory=list)

    @property
    def left_s(self) -> float | None:
        """Seconds until the phase is finished at this speed."""
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
        "unusable": count_unusable(store),
        "engines": [dict(row) for row in latest_engines(store)],
        "sessions": store.value("SELECT count(*) FROM session WHERE command = 'run'"),
    }
    if pid is not None:
        doing = "SELECT command FROM session WHERE pid = ? AND ended IS NULL ORDER BY id DESC"
        of_session["command"] = store.value(doing, pid)
    if session is not None:
        of_session |= {key: session[key] for key in ("started", "ended", "end_reason")}
    if round_ is None:
        return Status(pid, None, None, None, None, None, None, None, None, **of_session)
    return Status(
        pid=pid,
        round=round_.number,
        phase=round_.phase,
        serving_policy=best_policy(store),
        candidate_policy=None if round_.phase == "done" else round_.candidate_policy,
        last_accepted_policy=served_last(store),
        **asdict(phase_progress(store, round_)),
        **of_session,
    )


def explain_state(status: Status) -> str:
    """The reason for the state, to be printed after it: the process at work, or what ended it. Not escaped."""
    silent = "" if status.silent_s is None else f", last sign of life {format_duration(status.silent_s)} ago"
    if status.pid is not None:
        doing = f", {status.command}" if status.command not in (None, "run") else ""
        return f" (process {status.pid}{doing}{silent})"
    if status.state == "stale":
        return f" (its process died without a message{silent}; 'run' continues it)"
    if status.state == "stopped" and status.end_reason not in (None, "stopped", "finished"):
        return f" by {status.end_reason} ('run' continues it; run.log has the error)"
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
