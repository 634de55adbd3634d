"""`report`: a run as one self-contained HTML file, for people who do not have the store."""

import base64
import gzip
import hashlib
import json
import os
import random
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from loop.pages.attempts import choose_attempts, read_attempts, read_question, with_token_scores
from loop.pages.browse import SAMPLED, Side, compared_style, parse_filter, question_sets, sides
from loop.pages.escape import plain
from loop.pages.figures import read_figures
from loop.pages.render import asset, blank_row, filter_context, macro, overview_context, render, script_json
from loop.pages.thumbnails import thumbnail_url
from loop.reading.export import require_writable
from loop.reporting import Reporter
from store import Store
from store.database import now

PACKED_BYTES = 20_000_000
"""Most bytes for the details of questions: chains may be long, and a browser holds the whole file."""

MAX_ROUNDS = 6
MAX_CHAINS = 4
"""Chains that the report keeps per question and round."""

QUESTIONS_PER_PART = 50
"""Questions that are packed together."""

LISTED_TEXT_CHARACTERS = 300
"""Characters of a question in the list and its search."""

QUESTION_CHARACTERS = 30_000
"""Characters of a question in its details."""

Kept = tuple[int, int, tuple[str, ...], int, int]
"""Questions kept and in all, rounds kept, chains kept and in all."""

SCRIPTS = ("echarts.min.js", "charts.js")


@dataclass(frozen=True)
class Written:
    """The content of a report: questions and chains kept and in all, rounds with chains, bytes."""

    questions: int
    of: int
    rounds: tuple[str, ...]
    chains: int
    of_chains: int
    bytes: int


def write_report(
    store: Store, file: Path, max_questions: int, reporter: Reporter, packed_bytes: int = PACKED_BYTES
) -> Written:
    """Write the report. Of more than `max_questions` questions an even sample is kept, and the page says so.

    The same holds if questions and their chains take more than `packed_bytes`.
    """
    require_writable(file)
    with reporter.bar("reading rounds", store.value("SELECT count(*) FROM round"), "round") as bar:
        figures = read_figures(store, progress=bar.update)
    context = {
        "written": f"{now()[:16].replace('T', ' ')} UTC",
        "found": None,
        **overview_context(figures, _lost_link(store)),
    }
    scripts = [asset(name) for name in SCRIPTS]
    kept: Kept = (0, 0, (), 0, 0)
    if sides(store):
        scripts.append(asset("questions.js"))
        listed, kept = _questions(store, max_questions, packed_bytes, reporter)
        context |= listed
    style = asset("style.css")
    page = render("report.html", **context, style=style, scripts=scripts, policy=page_policy(style, scripts))
    written = page.encode()
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        temporary.write_bytes(written)
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)
    return Written(*kept, len(written))


def _lost_link(store: Store) -> Any:
    """A function that links to the questions that a round lost, if the report keeps both sides."""
    sets, kept = question_sets(store), set[str]()
    if sides(store):
        found = parse_filter(store, {})
        kept = {side.key for side in _kept_sides(store, (found.first, found.second))}

    def link(first: Side, second: Side) -> str:
        if len(sets) < 2 or not {first.key, second.key} <= kept:
            return ""
        return "#questions?" + urlencode({"set": sets[1], "first": first.key, "second": second.key, "show": "lost"})

    return link


def page_policy(style: str, scripts: Iterable[str]) -> str:
    """Only this file's own scripts and style are let run, whatever a model may have written."""
    allowed = " ".join(_hash(script) for script in scripts)
    return (
        f"default-src 'none'; img-src data:; script-src {allowed}; style-src {_hash(style)};"
        " base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _questions(store: Store, max_questions: int, packed_bytes: int, reporter: Reporter) -> tuple[dict[str, Any], Kept]:
    found = parse_filter(store, {})
    known, sets = _kept_sides(store, (found.first, found.second)), question_sets(store)
    there = {name: _question_ids(store, name, known) for name in sets}
    of = sum(map(len, there.values()))
    read = _read_questions(store, _choose_questions(there, max_questions), known, packed_bytes, reporter)
    index: dict[str, list[dict[str, Any]]] = {name: [] for name in sets}
    for place, each in enumerate(read):
        index[each.set].append({**each.row, "part": place // QUESTIONS_PER_PART})
    parts = [read[start : start + QUESTIONS_PER_PART] for start in range(0, len(read), QUESTIONS_PER_PART)]
    default = {"set": found.questions, "first": found.first.key, "second": found.second.key}
    names = {side.key: side.name for side in known}
    data = {"sets": index, "sides": list(names), "names": names, "default": default}
    kept: Kept = (len(read), of, tuple(names), sum(each.chains for each in read), store.value(CHAINS))
    context = {
        **filter_context(found, known, sets),
        "index": script_json(data),
        "parts_packed": [_pack({each.row["id"]: each.shown for each in part}) for part in parts],
        "blank": blank_row(),
        "order_link": lambda _: "#questions",
        "says": _describe_choice(store, kept),
    }
    return context, kept


@dataclass(frozen=True)
class _Read:
    """A question of the report: its set, its entry in the index, its details, and the chains in these."""

    set: str
    row: dict[str, Any]
    shown: dict[str, str]
    chains: int


def _read_questions(
    store: Store, drawn: dict[str, list[int]], known: Sequence[Side], packed_bytes: int, reporter: Reporter
) -> list[_Read]:
    """The drawn questions, by set and number; they are read in a mixed order until they take `packed_bytes`."""
    tallies = {name: _read_tallies(store, name, ids, known) for name, ids in drawn.items()}
    mixed = [(name, number) for name, ids in drawn.items() for number in ids]
    random.Random(0).shuffle(mixed)
    read, size = [], 0
    with reporter.bar("questions", len(mixed), "question") as bar:
        for name, number in mixed:
            found = _question(store, name, number, tallies[name][number], known)
            size += len(_pack({number: found.shown}))
            if size > packed_bytes:
                break
            read.append(found)
            bar.update()
    sets = list(drawn)
    return sorted(read, key=lambda each: (sets.index(each.set), each.row["id"]))


def _kept_sides(store: Store, wanted: Sequence[Side]) -> list[Side]:
    """The base model and evenly spaced rounds, with the compared ones; archived samples are not read."""
    known = sides(store)
    archived = {row["round"] for row in store.rows("SELECT round FROM archive")}
    here = [side for side in known if side.round not in archived or side in wanted]
    if len(here) <= MAX_ROUNDS:
        return here
    step = (len(here) - 1) / (MAX_ROUNDS - 1)
    spread = [here[round(place * step)] for place in range(MAX_ROUNDS)]
    return [side for side in here if side in spread or side in wanted]


def _describe_choice(store: Store, kept: Kept) -> str:
    count, of, known, chains, of_chains = kept
    rounds = len(sides(store))
    questions = f"All {of:,} questions" if count == of else f"{count:,} of {of:,} questions, drawn evenly,"
    where = "every round" if len(known) == rounds else f"{len(known)} of {rounds} policies and rounds"
    said = f"{questions} with up to {MAX_CHAINS} chains each of {where}."
    left_out = [f"{of - count:,} questions"] if count < of else []
    left_out += [f"{of_chains - chains:,} of {of_chains:,} chains"] if chains < of_chains else []
    said += f" Left out: {' and '.join(left_out)}." if left_out else ""
    return f"{said} 'serve' shows the whole store."


def _choose_questions(there: dict[str, list[int]], max_questions: int) -> dict[str, list[int]]:
    """Each set's share of the kept questions; what one set does not need, the next may use."""
    drawn, left = {}, max_questions
    by_size = sorted(there, key=lambda name: len(there[name]))
    for place, name in enumerate(by_size):
        part = left // (len(by_size) - place)
        ids = there[name]
        drawn[name] = sorted(random.Random(0).sample(ids, part)) if len(ids) > part else ids
        left -= len(drawn[name])
    return {name: drawn[name] for name in there}


@dataclass(frozen=True)
class _Results:
    """A question's results by side: (right, of), and the sides with their own outcome."""

    rounds: dict[str, tuple[int, int]]
    outcomes: dict[str, list[str]]


def _question_ids(store: Store, name: str, known: Sequence[Side]) -> list[int]:
    """The questions of a set for which any of these rounds has a tally, by number."""
    if name == SAMPLED:
        rows = store.rows(SAMPLED_IDS, json.dumps([side.round for side in known if side.round is not None]))
    else:
        policies = json.dumps([side.policy for side in known if side.policy is not None])
        rows = store.rows(GREEDY_IDS, policies, name, compared_style(store))
    return [row["question"] for row in rows]


def _read_tallies(store: Store, name: str, ids: Sequence[int], known: Sequence[Side]) -> dict[int, _Results]:
    wanted = json.dumps(ids)
    found: dict[int, _Results] = defaultdict(lambda: _Results({}, {"unparsable": [], "truncated": []}))
    style = compared_style(store)
    for side in known:
        if name == SAMPLED:
            rows = store.rows(TALLIES, side.round, wanted)
            odd = store.rows(ODD_SAMPLES, side.round, wanted)
        else:
            rows = store.rows(GREEDY, side.policy, name, style, wanted)
            odd = [row for row in rows if row["outcome"] in ("unparsable", "truncated")]
        for row in rows:
            found[row["question"]].rounds[side.key] = (row["correct"], row["samples"])
        for row in odd:
            found[row["question"]].outcomes[row["outcome"]].append(side.key)
    return dict(found)


CHAINS = """SELECT (SELECT count(*) FROM sample) + (SELECT coalesce(sum(samples), 0) FROM archive)
+ (SELECT count(*) FROM evaluation) + (SELECT count(*) FROM evaluation_sample)"""
SAMPLED_IDS = """SELECT DISTINCT question FROM round_question
WHERE round IN (SELECT value FROM json_each(?)) ORDER BY question"""
GREEDY_IDS = """SELECT DISTINCT question FROM evaluation
WHERE policy IN (SELECT value FROM json_each(?)) AND split = ? AND style = ? ORDER BY question"""
WANTED = "question IN (SELECT value FROM json_each(?))"
TALLIES = f"SELECT question, samples, correct FROM question_history WHERE round = ? AND {WANTED}"
GREEDY = f"""SELECT question, 1 AS samples, outcome = 'correct' AS correct, outcome FROM evaluation
WHERE policy = ? AND split = ? AND style = ? AND {WANTED}"""
ODD_SAMPLES = f"""SELECT DISTINCT question, outcome FROM sample JOIN verdict ON verdict.sample = sample.id
WHERE round = ? AND {WANTED} AND author = 'policy' AND outcome IN ('unparsable', 'truncated')"""


def _question(store: Store, name: str, number: int, results: _Results, known: Sequence[Side]) -> _Read:
    """A question's entry in the index, and its details."""
    card = read_question(store, number)
    side_section, question_card = (
        macro("question_parts.html", "side_section"),
        macro("question_parts.html", "question_card"),
    )
    sections, chains = [], 0
    for side in known:
        if found := read_attempts(store, card, side):
            chosen = [with_token_scores(store, each) for each in choose_attempts(found, MAX_CHAINS)]
            sections.append(side_section(side, len(found), chosen, True))
            chains += len(chosen)
    pictures = [(image, thumbnail_url(store, image.digest)) for image in card.images]
    more = len(card.text) - QUESTION_CHARACTERS
    asked = (
        card.text if more <= 0 else f"{card.text[:QUESTION_CHARACTERS]}… ({more:,} more characters are in the store)"
    )
    html = question_card(replace(card, text=asked), pictures, sections)
    row = {
        "id": number,
        "text": plain(card.text[:LISTED_TEXT_CHARACTERS]),
        "answers": plain(" | ".join(card.answers)[:LISTED_TEXT_CHARACTERS]),
        "kind": plain(card.kind or ""),
        "picture": bool(pictures),
        "suspect": card.suspect is not None,
        "rounds": results.rounds,
        **{outcome: keys for outcome, keys in results.outcomes.items() if keys},
    }
    return _Read(name, row, {"html": str(html), "picture": pictures[0][1] if pictures else ""}, chains)


def _pack(questions: dict[int, dict[str, str]]) -> str:
    """Base64 of gzipped JSON: about a tenth as long, and it cannot end a script element."""
    return base64.b64encode(gzip.compress(json.dumps(questions, ensure_ascii=False).encode(), 6, mtime=0)).decode()
