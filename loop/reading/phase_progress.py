"""Progress and speed of an open round's phase, counted on the store; fast for stores of any size."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from loop.evaluation.comparison import gate_split
from loop.evaluation.reported_styles import reported_styles
from loop.reading.accuracy_log import reported_split, trained_style
from store.database import Store, now_s
from store.rounds import GATE, Round

RECENT_ROWS = 8192
"""Number of latest rows that the speed is computed from."""

REPORTED = """FROM evaluation WHERE split = ?2 AND style IN (SELECT value FROM json_each(?3))
AND policy IN (SELECT candidate_policy FROM round WHERE number = ?1 UNION SELECT 0 WHERE ?1 = 0)"""
"""Answers to the reported questions by the policies that a round evaluates: its candidate, in round 0 also the base."""

TRIED = "FROM evaluation WHERE policy = ?1 AND split = ?2 AND style IN (SELECT value FROM json_each(?3))"
"""A policy's answers to the gate's questions."""


@dataclass(frozen=True)
class Progress:
    """`done` of `total` items; None if a phase is a single step or the number is unknown.

    If the total is not fixed, `at_most` is its upper limit. `per_second` is the rate at which the last items were
    committed, None if nothing was timed; `age_s` is the age of the last of them in seconds.
    """

    done: int | None = None
    total: int | None = None
    at_most: int | None = None
    per_second: float | None = None
    age_s: int | None = None


def phase_progress(store: Store, round_: Round) -> Progress:
    """The progress of the round's phase."""
    count = _PHASES.get(round_.phase)
    return Progress() if count is None else count(store, round_)


def _distil(store: Store, round_: Round) -> Progress:
    calls = "SELECT count(*) FROM teacher_call WHERE round = ? AND purpose = 'cold_start'"
    return Progress(store.value(calls, round_.number), _questions_of_round(store, round_))


def _sample(store: Store, round_: Round) -> Progress:
    turns = _configured(store, "stages", "samples")
    each = turns[(round_.number - 1) % len(turns)] if turns else _configured(store, "sampling", "samples")
    questions = _questions_of_round(store, round_)
    speed = _speed(store, "FROM sample WHERE round = ?1", round_.number)
    return Progress(_samples(store, round_), None if each is None else questions * each, None, *speed)


def _judge(store: Store, round_: Round) -> Progress:
    unjudged = "NOT EXISTS (SELECT 1 FROM verdict WHERE verdict.sample = sample.id)"
    total = _samples(store, round_)
    return Progress(
        total - store.value(f"SELECT count(*) FROM sample WHERE round = ? AND {unjudged}", round_.number), total
    )


def _evaluate(store: Store, round_: Round) -> Progress:
    """Progress of phase `evaluate`: each evaluated policy answers each reported question in each reported style."""
    policies = (round_.number == 0) + (round_.candidate_policy is not None)
    if not policies:
        return Progress()
    split, limit = reported_split(store), _configured(store, "evaluation", "limit")
    questions = _at_most(
        limit, store.value("SELECT count(*) FROM question WHERE split = ? AND unusable IS NULL", split)
    )
    styles = reported_styles(store)
    of = (round_.number, split, json.dumps(styles))
    total = policies * len(styles) * questions
    done = min(store.value(f"SELECT count(*) {REPORTED}", *of), total)
    return Progress(done, total, None, *_speed(store, REPORTED, *of))


def _gate(store: Store, round_: Round) -> Progress:
    """Progress of phase `gate`: answers of the policy on trial; a trial may end early.

    An accepted shrunk policy then answers the reported questions, whose number is known.
    """
    if round_.candidate_policy is None or round_.decision == "rejected":
        return Progress()
    if round_.decision is not None:
        return _evaluate(store, round_)
    guarded = [] if _configured(store, "gate", "rule") == "always" else _configured(store, "gate", "guard") or []
    styles = list(dict.fromkeys([trained_style(store), *guarded]))
    split = gate_split(store, reported_split(store))
    limit = _configured(store, "gate" if split == GATE else "evaluation", "limit")
    usable = "SELECT count(*) FROM question WHERE split = ? AND batch = 0 AND unusable IS NULL"
    questions = _at_most(limit, store.value(usable, split))
    # Shrunk candidates are made one after the other, so the newest policy is on trial.
    of = (store.value("SELECT max(number) FROM policy"), split, json.dumps(styles))
    at_most = len(styles) * questions
    done = min(store.value(f"SELECT count(*) {TRIED}", *of), at_most)
    return Progress(done, None, at_most, *_speed(store, TRIED, *of))


_PHASES: dict[str, Callable[[Store, Round], Progress]] = {
    "distil": _distil,
    "sample": _sample,
    "judge": _judge,
    "evaluate": _evaluate,
    "gate": _gate,
}


def _samples(store: Store, round_: Round) -> int:
    return int(store.value("SELECT count(*) FROM sample WHERE round = ?", round_.number))


def _questions_of_round(store: Store, round_: Round) -> int:
    return int(store.value("SELECT count(*) FROM round_question WHERE round = ?", round_.number))


def _at_most(limit: int | None, count: int) -> int:
    return count if limit is None else min(limit, count)


def _configured(store: Store, table: str, key: str) -> Any:
    text = store.value("SELECT configuration FROM run")
    return None if text is None else json.loads(text).get(table, {}).get(key)


def _speed(store: Store, rows: str, *parameters: Any) -> tuple[float | None, int | None]:
    """Rows per second over the latest of them, and the age of the last commit in seconds."""
    recent = f"SELECT created {rows} ORDER BY id DESC LIMIT {RECENT_ROWS}"
    times = [row["created"] for row in store.rows(recent, *parameters) if row["created"] is not None]
    if not times:
        return None, None
    # The rows of one commit have one time. Those of the earliest commit were made before that time: they do not count.
    # If the clock was set back, there is no interval to divide by.
    committed, seconds = sum(time > min(times) for time in times), max(times) - min(times)
    return (committed / seconds if seconds > 0 else None), max(0, now_s() - max(times))
