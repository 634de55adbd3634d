"""What a run is doing now, how far it is and how fast: a few look-ups, however large the store."""

import json
from dataclasses import dataclass
from pathlib import Path

from store.database import Store, now_s
from store.lock import lock_holder
from store.rounds import Round, latest_round

RECENT = 8192
"""Rows over which the speed is taken."""
STYLES = 2
"""Held-out questions are answered in both prompt styles."""


@dataclass(frozen=True)
class Status:
    """`done` of `total` items of the round's phase, None where a phase is a single step.

    `per_second` is the rate at which the last items were committed, None where nothing was timed; `age_s` says how
    long ago the last of them was. `pid` is the process that works on the run, None if none does.
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


def run_status(store: Store) -> Status:
    """The state of the latest round."""
    pid = lock_holder(store.path.parent)
    state = latest_round(store)
    if state is None:
        return Status(pid, None, None, None, None, None, None, None, None)
    done, total = _progress(store, state)
    speed, age = _speed(store, state)
    return Status(pid, state.number, state.phase, state.serving, state.candidate, done, total, speed, age)


def _progress(store: Store, state: Round) -> tuple[int | None, int | None]:
    questions = store.value("SELECT count(*) FROM round_question WHERE round = ?", state.number)
    samples = "SELECT count(*) FROM sample WHERE round = ?"
    match state.phase:
        case "distil":
            calls = "SELECT count(*) FROM teacher_call WHERE round = ? AND purpose = 'cold_start'"
            return store.value(calls, state.number), questions
        case "sample":
            each = _configured(store, "sampling", "samples")
            return store.value(samples, state.number), None if each is None else questions * each
        case "judge":
            unjudged = f"{samples} AND NOT EXISTS (SELECT 1 FROM verdict WHERE verdict.sample = sample.id)"
            total = store.value(samples, state.number)
            return total - store.value(unjudged, state.number), total
        case "evaluate":
            answered = "SELECT count(*) FROM evaluation WHERE policy = ? AND split = ?"
            split, limit = _configured(store, "evaluation", "split"), _configured(store, "evaluation", "limit")
            held_out = store.value("SELECT count(*) FROM question WHERE split = ?", split)
            done = store.value(answered, state.candidate, split)
            return done, STYLES * (held_out if limit is None else min(limit, held_out))
    return None, None


def _configured(store: Store, table: str, key: str) -> int | None:
    text = store.value("SELECT configuration FROM run")
    value: int | None = None if text is None else json.loads(text).get(table, {}).get(key)
    return value


def _speed(store: Store, state: Round) -> tuple[float | None, int | None]:
    match state.phase:
        case "sample":
            recent = "SELECT created FROM sample WHERE round = ? ORDER BY id DESC LIMIT ?"
            key = state.number
        case "evaluate" if state.candidate is not None:
            recent = "SELECT created FROM evaluation WHERE policy = ? ORDER BY id DESC LIMIT ?"
            key = state.candidate
        case _:
            return None, None
    times = [row["created"] for row in store.rows(recent, key, RECENT) if row["created"] is not None]
    if not times:
        return None, None
    # The rows of one commit share a moment: those of the earliest commit were made before it, so they do not count.
    # A clock that was set back leaves no span to divide by.
    counted, seconds = sum(time > min(times) for time in times), max(times) - min(times)
    return (counted / seconds if seconds > 0 else None), max(0, now_s() - max(times))


def format_status(run_dir: Path, status: Status) -> str:
    """Status as lines for people."""
    lines = [f"{run_dir}: " + ("not running" if status.pid is None else f"running (process {status.pid})")]
    if status.round is None:
        return "\n".join([*lines, "no round has started"])
    done = "" if status.total is None else f", {status.done} of {status.total}"
    speed = "" if status.per_second is None else f", {status.per_second:.1f} a second"
    seen = "" if status.age_s is None else f", the last {status.age_s} s ago"
    lines.append(f"round {status.round}: {status.phase}{done}{speed}{seen}")
    candidate = "" if status.candidate_policy is None else f", candidate {status.candidate_policy}"
    lines.append(f"serving policy {status.serving_policy}{candidate}")
    return "\n".join(lines)
