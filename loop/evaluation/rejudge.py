"""Judges stored samples and answers again, by another judge or by a new version of the questions' own judges."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from judges import Judge, JudgeSpecError, Output, find_judge, give_verdicts
from loop.errors import InputError
from loop.reporting import Reporter
from store import Store
from store.database import as_json
from store.questions import Question, questions_by_id
from store.rejudged import (
    KINDS,
    Kind,
    NewRejudged,
    add_rejudged,
    count_judged,
    count_rejudged,
    has_rejudged,
    judged_after,
    turned,
    turned_pairs,
)

BATCH = 1000

JudgeKey = tuple[str, str]
"""A judge's name with its options, and its version."""


@dataclass
class Rejudged:
    """The result: the judges, and per kind the records judged anew, by the same judge already, or unlabelled."""

    judges: set[JudgeKey] = field(default_factory=set)
    new: Counter[str] = field(default_factory=Counter)
    same_judge: Counter[str] = field(default_factory=Counter)
    unanswered: Counter[str] = field(default_factory=Counter)


def rejudge(
    store: Store,
    spec: str | None,
    reporter: Reporter,
    check_stop: Callable[[], None] = lambda: None,
    batch: int = BATCH,
) -> Rejudged:
    """Judge every stored chain of finished rounds and every held-out answer by one judge, or by each question's own.

    The run's own verdicts stay unchanged; this judge's verdicts are kept beside them, `batch` per transaction. A
    second call continues an interrupted one. Records with a verdict of the same judge and version are left out; so are
    questions without an accepted answer.
    Raises InputError for a judge that does not exist, asks a model, or cannot work with a question's answers.
    """
    named = None if spec is None else _judge(spec, "--judge")
    found = Rejudged()
    for kind in KINDS:
        with reporter.bar(f"judging {kind.name}s again", count_judged(store, kind), kind.name) as bar:
            last = 0
            while rows := judged_after(store, kind, last, batch):
                _batch(store, kind, rows, named, found)
                last = rows[-1]["id"]
                bar.update(len(rows))
                check_stop()
    return found


def turned_records(store: Store, kind: Kind, judges: set[JudgeKey]) -> Iterator[Any]:
    """The records of one kind whose verdict changes, for several judges, in the order of the judges' names."""
    return chain.from_iterable(turned(store, kind, *judge) for judge in sorted(judges))


def turned_pair_records(store: Store, judges: set[JudgeKey]) -> Iterator[Any]:
    """The pairs that would not have been made, over several judges."""
    return chain.from_iterable(turned_pairs(store, *judge) for judge in sorted(judges))


def count_all(store: Store, kind: Kind, judges: set[JudgeKey]) -> int:
    """Number of verdicts of one kind that these judges have given, in this call or before."""
    return sum(count_rejudged(store, kind, *judge) for judge in judges)


def _batch(store: Store, kind: Kind, rows: Sequence[Any], named: Judge | None, found: Rejudged) -> None:
    questions = questions_by_id(store, {row["question"] for row in rows})
    by_judge: dict[JudgeKey, list[Any]] = defaultdict(list)
    judges: dict[JudgeKey, Judge] = {}
    for row in rows:
        question = questions[row["question"]]
        judge = named or _judge(question.judge, f"question {question.id}")
        key = (judge.name, judge.version)
        if not question.answers:
            found.unanswered[kind.name] += 1
        elif key == (row["judge"], row["judge_version"]):
            found.same_judge[kind.name] += 1
        else:
            _check(judge, question)
            judges[key] = judge
            by_judge[key].append(row)
    verdicts = []
    for key, waiting in by_judge.items():
        found.judges.add(key)
        there = has_rejudged(store, kind, [row["id"] for row in waiting], *key)
        waiting = [row for row in waiting if row["id"] not in there]
        given = give_verdicts(judges[key], [_output(row, questions[row["question"]]) for row in waiting])
        verdicts += [
            NewRejudged(row["id"], *key, each.extracted, each.score, each.outcome, as_json(list(each.flags)))
            for row, each in zip(waiting, given, strict=True)
        ]
    with store.transaction():
        add_rejudged(store, kind, verdicts)
    found.new[kind.name] += len(verdicts)


def _output(row: Any, question: Question) -> Output:
    return Output(row["text"], question.answers, question.choices, row["finish_reason"], row["style"] == "cot")


def _judge(spec: str, where: str) -> Judge:
    try:
        judge = find_judge(spec)
    except JudgeSpecError as error:
        raise InputError(f"{where}: {error}") from error
    if judge.rule.name == "llm":
        raise InputError(f"{where}: judge 'llm' asks a model; judge an export with 'judge --judge llm' instead")
    return judge


def _check(judge: Judge, question: Question) -> None:
    try:
        judge.check_answers(question.answers)
    except JudgeSpecError as error:
        raise InputError(f"question {question.id}: {error}; name a judge that fits its answers with --judge") from error
