"""Questions page by page from the store, with the results of two rounds for each.

A page begins at the key where the one before it ended, and reads through indices. So it is as fast in a store of
millions of samples as in a small one.
"""

import json
import re
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from loop.errors import InputError
from store import Store
from store.rounds import GATE

PAGE = 50
SAMPLED = "sampled"
BASE = "base"
SHOWS = {
    "all": "all",
    "lost": "worse in the second",
    "gained": "better in the second",
    "none": "none right in the second",
    "some": "some right in the second",
    "every": "all right in the second",
    "unparsable": "unparsable in the second",
    "truncated": "truncated in the second",
    "suspect": "suspect annotation",
}
ORDERS = {"id": "number", "first": "first round", "second": "second round", "change": "change"}

LAST = 9.0
"""The sort key of a question without a figure: larger than every share, so that it comes last."""

TALLY = """(SELECT {column} FROM question_history AS tally
    WHERE tally.round = :{side} AND tally.question = asked.question)"""
GREEDY = """(SELECT outcome = 'correct' FROM evaluation AS greedy WHERE greedy.policy = :{side}
    AND greedy.split = :split AND greedy.style = :style AND greedy.question = asked.question)"""
WITH_OUTCOME = """EXISTS (SELECT 1 FROM sample JOIN verdict ON verdict.sample = sample.id
    WHERE sample.round = :second AND sample.question = asked.question AND sample.author = 'policy'
      AND verdict.outcome = '{outcome}')"""
SEARCHED = "question.text || char(10) || question.answers || char(10) || coalesce(question.kind, '')"

COLUMNS = """asked.question AS number, question.id, question.text, question.answers, question.kind, question.suspect,
    (SELECT image FROM question_image WHERE question_image.question = question.id ORDER BY position LIMIT 1) AS image"""


@dataclass(frozen=True)
class Side:
    """A round to compare, by its key in addresses: "base" or the round's number."""

    key: str
    name: str
    round: int | None
    policy: int | None
    decision: str | None = None


@dataclass(frozen=True)
class Filter:
    """The selection of a list: questions, the two rounds, order, and the key to start from."""

    questions: str
    first: Side
    second: Side
    search: str = ""
    show: str = "all"
    order: str = "id"
    descending: bool = False
    after: str = ""


@dataclass(frozen=True)
class Tally:
    """How many of a question's samples are right. A greedy answer counts as one sample."""

    correct: int
    total: int

    @property
    def share(self) -> float | None:
        """The share of right samples; None without samples."""
        return self.correct / self.total if self.total else None


@dataclass(frozen=True)
class Row:
    """A question in the list."""

    id: int
    text: str
    answers: tuple[str, ...]
    kind: str | None
    suspect: int | None
    image: str | None
    first: Tally
    second: Tally

    @property
    def change(self) -> float | None:
        """The second share minus the first."""
        if self.first.share is None or self.second.share is None:
            return None
        return self.second.share - self.first.share


@dataclass(frozen=True)
class Page:
    """`after` is the key at which the next page begins; None on the last page."""

    rows: tuple[Row, ...]
    after: str | None


def sides(store: Store) -> list[Side]:
    """The base model and every round with chains, oldest first."""
    rounds = store.rows(
        "SELECT number, candidate_policy, decision FROM round"
        " WHERE number = 0 OR phase NOT IN ('sample', 'judge') ORDER BY number"
    )
    base = [Side(BASE, BASE, None, 0)] if store.row("SELECT 1 FROM policy WHERE number = 0") else []
    return base + [
        Side(
            str(row["number"]),
            "start" if row["number"] == 0 else f"round {row['number']}",
            row["number"],
            row["candidate_policy"],
            row["decision"],
        )
        for row in rounds
    ]


def question_sets(store: Store) -> list[str]:
    """ "sampled", and the splits that some policy was evaluated on."""
    configured = store.value("SELECT json_extract(configuration, '$.evaluation.split') FROM run") or "test"
    return [
        SAMPLED,
        *(
            split
            for split in dict.fromkeys((str(configured), GATE))
            if store.row("SELECT 1 FROM evaluation WHERE policy IN (SELECT number FROM policy) AND split = ?", split)
        ),
    ]


def default_sides(known: Sequence[Side]) -> tuple[Side, Side]:
    """The last round with a decision, and the last accepted round before it."""
    decided = [side for side in known if side.policy is not None and side.decision in ("accepted", "rejected")]
    second = decided[-1] if decided else known[-1]
    earlier = [side for side in decided[:-1] if side.decision == "accepted"]
    return (earlier[-1] if earlier else known[0]), second


def parse_filter(store: Store, asked: dict[str, str]) -> Filter:
    """A filter from an address's parameters; raises InputError naming the one that is wrong."""
    known = sides(store)
    if not known:
        raise InputError("no round has started yet: there is nothing to look at")
    names = {side.key: side for side in known}
    first, second = default_sides(known)

    def choice(key: str, default: str, allowed: Sequence[str]) -> str:
        value = asked.get(key) or default
        if value not in allowed:
            raise InputError(f"{key}={value[:40]}: it is one of {', '.join(allowed)}")
        return value

    sets = question_sets(store)
    after = asked.get("after", "")
    if after and not re.fullmatch(r"-?[0-9]{1,4}(\.[0-9]{1,20})?(e-?[0-9]{1,3})?:[0-9]{1,18}", after):
        raise InputError(f"after={after[:40]}: that is no place in the list; begin at the first page")
    return Filter(
        choice("set", sets[1] if len(sets) > 1 else SAMPLED, sets),
        names[choice("first", first.key, list(names))],
        names[choice("second", second.key, list(names))],
        asked.get("q", "")[:200],
        choice("show", "all", list(SHOWS)),
        choice("order", "id", list(ORDERS)),
        asked.get("descending") == "1",
        after,
    )


def count_questions(store: Store, found: Filter) -> int:
    """The number of questions in the list without a search text."""
    if found.questions == SAMPLED:
        count = store.value("SELECT count(*) FROM round_question WHERE round = ?", found.second.round)
    else:
        count = store.value(
            "SELECT count(*) FROM evaluation WHERE policy = ? AND split = ? AND style = ?",
            found.second.policy,
            found.questions,
            compared_style(store),
        )
    return int(count)


def compared_style(store: Store) -> str:
    """The style in which held-out answers are compared: the one that is trained."""
    return store.value("SELECT json_extract(configuration, '$.sampling.style') FROM run") or "cot"


def list_questions(store: Store, found: Filter, limit: int = PAGE) -> Page:
    """A page of the list."""
    sql, parameters = page_query(store, found, limit + 1)
    cursor = store.connection.cursor()
    cursor.row_factory = sqlite3.Row
    rows = cursor.execute(sql, parameters).fetchall()
    more = len(rows) > limit
    made = tuple(
        Row(
            row["id"],
            row["text"],
            tuple(json.loads(row["answers"])),
            row["kind"],
            row["suspect"],
            row["image"],
            Tally(row["first_correct"] or 0, row["first_samples"] or 0),
            Tally(row["second_correct"] or 0, row["second_samples"] or 0),
        )
        for row in rows[:limit]
    )
    return Page(made, f"{rows[limit - 1]['place']!r}:{rows[limit - 1]['id']}" if more else None)


def page_query(store: Store, found: Filter, limit: int) -> tuple[str, dict[str, Any]]:
    """The query of a page and its parameters."""
    sampled = found.questions == SAMPLED
    if sampled:
        source = "round_question AS asked JOIN question ON question.id = asked.question WHERE asked.round = :second"
        tallies = ", ".join(
            f"{TALLY.format(side=side, column=column)} AS {side}_{column}"
            for side in ("first", "second")
            for column in ("correct", "samples")
        )
    else:
        source = (
            "evaluation AS asked JOIN question ON question.id = asked.question"
            " WHERE asked.policy = :second AND asked.split = :split AND asked.style = :style"
        )
        tallies = ", ".join(
            f"{GREEDY.format(side=side)} AS {side}_correct, {GREEDY.format(side=side)} IS NOT NULL AS {side}_samples"
            for side in ("first", "second")
        )
    place, number = found.after.split(":") if found.after else ("", "0")
    conditions = []
    if found.order == "id" and found.after:
        conditions.append("asked.question < :number" if found.descending else "asked.question > :number")
    if found.search:
        # SQLite's own LIKE and lower() handle the case of ASCII only.
        store.connection.create_function("casefolded", 1, str.casefold, deterministic=True)
        conditions.append(f"instr(casefolded({SEARCHED}), :search)")
    if found.show == "suspect":
        conditions.append("question.suspect IS NOT NULL")
    if found.show in ("unparsable", "truncated"):
        conditions.append(WITH_OUTCOME.format(outcome=found.show) if sampled else f"asked.outcome = '{found.show}'")
    inner = f"SELECT {COLUMNS}, {tallies} FROM {source} {''.join(f' AND {each}' for each in conditions)}"
    shares = {side: f"1.0 * {side}_correct / nullif({side}_samples, 0)" for side in ("first", "second")}
    change = f"{shares['second']} - {shares['first']}"
    tests = {
        "lost": f"{change} < 0",
        "gained": f"{change} > 0",
        "none": "second_samples > 0 AND second_correct = 0",
        "some": "second_correct > 0 AND second_correct < second_samples",
        "every": "second_samples > 0 AND second_correct = second_samples",
    }
    outer = [tests[found.show]] if found.show in tests else []
    sign = "-" if found.descending else ""
    if found.order == "id":
        value, ordering = "0", f"ORDER BY number {'DESC' if found.descending else ''}"
    else:
        value = f"coalesce({sign}({change if found.order == 'change' else shares[found.order]}), {LAST})"
        ordering = f"ORDER BY {value}, id"
        if found.after:
            outer.append(f"({value}, id) > (:place, :number)")
    where = f"WHERE {' AND '.join(outer)}" if outer else ""
    return f"SELECT *, {value} AS place FROM ({inner}) {where} {ordering} LIMIT :limit", {
        "first": found.first.round if sampled else found.first.policy,
        "second": found.second.round if sampled else found.second.policy,
        "split": found.questions,
        "style": compared_style(store),
        "search": found.search.casefold(),
        "place": float(place or 0),
        "number": int(number),
        "limit": limit,
    }
