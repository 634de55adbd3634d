"""Figures of the pages as plain data, read from the accuracy log and the store's views."""

import json
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from loop.reading.accuracy_log import accuracy, log_rows, reported_split, trained_style
from loop.reading.answer_balance import answer_balance, given_answers
from loop.reading.lineage import policy_records
from loop.reading.run_status import Status, run_status
from store import Store
from store.gate import best_policy
from store.rounds import GATE
from store.summary import round_figures

OUTCOMES = ("correct", "wrong", "unparsable", "truncated", "judge_error")
BINS = ("none right", "up to 1/4", "up to 1/2", "up to 3/4", "under all", "all right")
"""Bins of questions by the share of their samples that are right."""

MAX_COUNTED = 40
"""Most rounds for which samples and answers are counted; in longer runs evenly spaced rounds are taken."""

TALLIES = "SELECT samples, correct FROM question_history WHERE round = ? AND samples > 0 AND answers <> '[]'"

Bins = tuple[int, ...]
Answers = dict[str, tuple[float, float]]
"""The commonest answers, with the share of questions that accept each and the share to which a candidate gives it."""


@dataclass
class Counted:
    """Counts of finished rounds, by round number, kept from one reading to the next."""

    pass_rates: dict[int, Bins] = field(default_factory=dict)
    answers: dict[int, Answers] = field(default_factory=dict)


@dataclass(frozen=True)
class Figures:
    """A run at one moment. Dictionaries are by round number; a round without a figure is left out."""

    name: str
    style: str
    """The prompt style that is trained."""
    facts: tuple[tuple[str, str], ...]
    rounds: tuple[dict[str, Any], ...]
    status: Status
    served: dict[str, Any] | None
    """The best policy's row of `policies`, with its `accuracy` on the reported questions."""
    samples: int
    outcomes: dict[int, dict[str, int]]
    tokens: dict[int, float]
    pass_rates: dict[int, Bins]
    gate: dict[int, dict[str, Any]]
    """Accuracy on the gate's questions in that style, by policy; without policies of an open round."""
    answers: dict[int, Answers]
    """Answers of candidates in that style, on the reported questions."""
    balance: tuple[dict[str, Any], ...]
    """The rows of `answer_balance` of the last round in `answers`."""
    training: dict[int, dict[str, float]]
    """`rewards/margins` and the other figures that TRL logged last."""
    policies: tuple[dict[str, Any], ...]
    """The records of `policy_records`."""
    teacher: tuple[dict[str, Any], ...]


def read_figures(store: Store, counted: Counted | None = None, progress: Callable[[], None] = lambda: None) -> Figures:
    """All figures at one moment. `counted` keeps the counts of finished rounds from call to call.

    `progress` is called once per round whose samples were counted.
    """
    kept = Counted() if counted is None else counted
    with store.snapshot():
        rounds = log_rows(store)
        counts = {row["round"]: found for row in rounds if (found := round_figures(store, row["round"]))}
        configuration = json.loads(store.value("SELECT configuration FROM run") or "{}")
        style, split = trained_style(store), reported_split(store)
        policies = list(policy_records(store))
        best, undecided = best_policy(store), {row["policy"] for row in rounds if row["decision"] is None}
        judging = {row["round"] for row in rounds if row["phase"] in ("sample", "judge")}
        judged = {number: row for number, row in counts.items() if number not in judging}
        evaluated = {row["round"]: row for row in rounds if row["accuracy"][style]}
        return Figures(
            name=store.path.parent.resolve().name,
            style=style,
            facts=tuple(_facts(store, configuration)),
            rounds=tuple(rounds),
            status=run_status(store),
            served=next((_with_accuracy(rounds, row) for row in policies if row["policy"] == best), None),
            samples=sum(row["samples"] for row in counts.values()),
            outcomes={number: {each: row[each] for each in OUTCOMES} for number, row in counts.items()},
            tokens={number: row["tokens"] / row["samples"] for number, row in counts.items() if row["samples"]},
            pass_rates={
                number: _pass_rates(store, number, rounds, kept.pass_rates, progress)
                for number in _evenly_spaced(judged)
            },
            gate={
                row["policy"]: right
                for row in policies
                if row["policy"] not in undecided and (right := accuracy(store, row["policy"], style, GATE))
            },
            answers={
                number: _answers(store, evaluated[number], style, split, kept.answers)
                for number in _evenly_spaced(evaluated)
            },
            balance=tuple(answer_balance(store, max(evaluated), style, split)) if evaluated else (),
            training={
                row["round"]: _finite_figures(row["metrics"])
                for row in store.rows("SELECT round, metrics FROM training ORDER BY id")
            },
            policies=tuple(policies),
            teacher=tuple(dict(row) for row in store.rows("SELECT * FROM teacher_cost")),
        )


def _facts(store: Store, configuration: dict[str, Any]) -> Iterable[tuple[str, str]]:
    run = store.row("SELECT seed, created FROM run")
    if run is None:
        return
    model = str(configuration.get("policy", {}).get("model", ""))
    yield "model", model.rstrip("/").rsplit("/", 1)[-1] if model.startswith("/") else model
    if configuration.get("recipe"):
        yield "recipe", str(configuration["recipe"])
    questions = configuration.get("questions", {})
    yield "questions", str(questions.get("source", ""))
    if configuration.get("teacher", {}).get("enabled"):
        yield "teacher", str(configuration["teacher"].get("model", ""))
    yield "seed", str(run["seed"])
    yield "started", f"{run['created'][:16].replace('T', ' ')} UTC"


def _with_accuracy(rounds: list[dict[str, Any]], policy: dict[str, Any]) -> dict[str, Any]:
    made = next((row["accuracy"] for row in rounds if row["policy"] == policy["policy"]), None)
    return {**policy, "accuracy": made or (rounds[0]["base_accuracy"] if rounds else None) or {}}


def _evenly_spaced(counts: dict[int, Any]) -> list[int]:
    """Evenly spaced round numbers, with the first and the last."""
    numbers = sorted(counts)
    if len(numbers) <= MAX_COUNTED:
        return numbers
    step = (len(numbers) - 1) / (MAX_COUNTED - 1)
    return [numbers[round(place * step)] for place in range(MAX_COUNTED)]


def _pass_rates(
    store: Store, number: int, rounds: list[dict[str, Any]], cached: dict[int, Bins], progress: Callable[[], None]
) -> Bins:
    if number in cached:
        return cached[number]
    bins = [0] * len(BINS)
    for row in store.stream(TALLIES, number):
        bins[pass_rate_bin(row["correct"], row["samples"])] += 1
    progress()
    if any(row["round"] == number and row["phase"] == "done" for row in rounds):
        cached[number] = tuple(bins)
    return tuple(bins)


def _answers(store: Store, row: dict[str, Any], style: str, split: str, kept: dict[int, Answers]) -> Answers:
    if row["round"] in kept:
        return kept[row["round"]]
    found = given_answers(store, row["policy"], style, split)
    if row["phase"] == "done":
        kept[row["round"]] = found
    return found


def pass_rate_bin(correct: int, samples: int) -> int:
    """The bin (of BINS) of a question."""
    if correct in (0, samples):
        return len(BINS) - 1 if correct else 0
    return -(-4 * correct // samples)


def _finite_figures(metrics: str) -> dict[str, float]:
    """The finite figures that DPO logged last. The first version stored them without a table `dpo`."""
    said = json.loads(metrics)
    last = {**said, **said.get("dpo", {})}
    return {key: value for key, value in last.items() if isinstance(value, int | float) and math.isfinite(value)}
