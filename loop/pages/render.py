"""Templates and assets of the pages, and the overview's parts beside its charts."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from jinja2.utils import htmlsafe_json_dumps
from markupsafe import Markup

from loop.pages.answers import answers_section
from loop.pages.browse import SHOWS, Filter, Row, Side, Tally
from loop.pages.charts import charts
from loop.pages.drawing import NONE, Chart, percent, round_name, sign, signed
from loop.pages.escape import plain, visible
from loop.pages.figures import Figures
from loop.reading.accuracy_log import decision_in_short
from loop.reading.run_status import Status, explain_state

FOLDER = Path(__file__).parent
CLIP = 4000
"""Characters of a chain that are shown before "more"."""

SHADES = (0.1, 0.5, 1.5)
"""Nats above which a token's colour is stronger."""

SECONDS = ((3600.0, "h"), (60.0, "min"), (1.0, "s"))


@dataclass(frozen=True)
class Tile:
    """One large figure of the overview."""

    label: str
    figure: str
    more: str


def overview_context(figures: Figures, lost_link: Callable[[Side, Side], str]) -> dict[str, Any]:
    """The variables of `overview_parts.html`; `lost_link` gives the address of the questions that a round lost."""
    return {
        "name": figures.name,
        "figures": figures,
        "charts": charts(figures),
        "answers": answers_section(figures),
        "tiles": _tiles(figures),
        "rounds": _rounds(figures, lost_link),
        "status": status_line(figures.status),
    }


def render(template: str, **context: Any) -> str:
    """A page from a template; all values are escaped."""
    return ENVIRONMENT.get_template(template).render(**context)


def macro(template: str, name: str) -> Callable[..., Markup]:
    """A macro of a template, for parts that are rendered alone."""
    found: Callable[..., Markup] = getattr(ENVIRONMENT.get_template(template).module, name)
    return found


def asset(name: str) -> str:
    """A file of `static/`."""
    return (FOLDER / "static" / name).read_text(encoding="utf-8")


def script_json(value: Any) -> Markup:
    """JSON for a script element: nothing in it can end the element."""
    return htmlsafe_json_dumps(value)


def charts_json(made: Sequence[Chart]) -> Markup:
    """The data for charts.js."""
    return script_json([{"key": each.key, "options": each.options, "tips": each.tips} for each in made])


def status_line(status: Status) -> str:
    """The run's status in one line."""
    running = f"{status.state.capitalize()}{plain(explain_state(status))}"
    if status.round is None:
        return f"{running}. No round has started."
    where = f"{running}. Round {round_name(status.round)}: {status.phase}"
    where += "" if status.total is None else f", {status.done:,} of {status.total:,}"
    where += "" if status.at_most is None else f", {status.done:,} of at most {status.at_most:,} answers"
    where += "" if status.per_second is None else f", {status.per_second:,.1f} per second"
    going_on = ""
    if status.last_accepted_policy not in (None, status.serving_policy):
        going_on = f"; rounds go on from policy {status.last_accepted_policy}"
    return f"{where}. Best policy {status.serving_policy}{going_on}."


def points(change: float | None) -> str:
    """A difference of shares in percentage points, with its sign."""
    if change is None:
        return NONE
    rounded = round(100 * change)
    return f"{sign(rounded)}{abs(rounded)}"


def shade(score: float) -> str:
    """The CSS class of a token's colour: for or against the chain, by nats."""
    strength = sum(abs(score) >= least for least in SHADES)
    return f"{'for' if score > 0 else 'against'}-{strength}" if strength else ""


def duration(seconds: float) -> str:
    """A duration in hours and minutes, minutes and seconds, or seconds."""
    for place, (size, name) in enumerate(SECONDS[:-1]):
        if seconds >= size:
            smaller, small_name = SECONDS[place + 1]
            return f"{int(seconds // size)} {name} {int(seconds % size // smaller)} {small_name}"
    return f"{seconds:.0f} s"


def _tiles(figures: Figures) -> list[Tile]:
    rounds = [row for row in figures.rounds if row["round"] > 0]
    decided = [row["decision"] for row in rounds]
    calls = sum(row["calls"] for row in figures.teacher)
    cost = math.fsum(row["cost_usd"] or 0 for row in figures.teacher)
    seconds = math.fsum(value for row in figures.rounds for value in row["seconds"].values())
    rates = [share for row in rounds if (share := row["pass_rate"]) is not None]
    served = figures.served or {"policy": None, "accuracy": {}}
    return [
        _accuracy_tile(figures, served, "cot", "Held out, with reasoning"),
        _accuracy_tile(figures, served, "direct", "Held out, direct answer"),
        Tile(
            "Rounds finished",
            str(sum(row["phase"] == "done" for row in rounds)),
            f"{decided.count('accepted')} accepted, {decided.count('rejected')} rejected",
        ),
        Tile("Samples", f"{figures.samples:,}", f"last pass rate {percent(rates[-1])}" if rates else "none judged yet"),
        Tile("Teacher", f"${cost:,.2f}", f"{calls:,} requests"),
        Tile("Time in phases", duration(seconds), f"{len(figures.policies)} policies"),
    ]


def _accuracy_tile(figures: Figures, served: dict[str, Any], style: str, label: str) -> Tile:
    found = served["accuracy"].get(style)
    if not found:
        return Tile(label, NONE, "not evaluated yet")
    start = figures.rounds[0]["accuracy"][style] if figures.rounds else None
    # No line ends within the interval.
    more = f"[{100 * found['low']:.1f}, {100 * found['high']:.1f}]".replace(" ", "\N{NO-BREAK SPACE}")
    more += f", n\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}{found['questions']:,}, best policy {served['policy']}"
    last = figures.status.last_accepted_policy
    if style == figures.style and last != served["policy"]:
        more += f"; rounds go on from {last}"
    if start and figures.rounds[0]["policy"] != served["policy"]:
        more += f"; {signed(found['accuracy'] - start['accuracy'])} since the start"
    return Tile(label, percent(found["accuracy"]), more)


def _rounds(figures: Figures, lost_link: Callable[[Side, Side], str]) -> list[dict[str, Any]]:
    made_by = {row["policy"]: row for row in figures.rounds if row["policy"] is not None}
    base = figures.rounds[0]["base_accuracy"] if figures.rounds else None
    return [_round(row, made_by, base or {}, lost_link) for row in figures.rounds]


def _round(
    row: dict[str, Any],
    made_by: dict[int, dict[str, Any]],
    base: dict[str, Any],
    lost_link: Callable[[Side, Side], str],
) -> dict[str, Any]:
    other = row["serving_policy"] if row["compared_with"] is None else row["compared_with"]
    before = made_by.get(other)
    accuracies = before["accuracy"] if before else base
    mine, theirs = row["accuracy"]["cot"], accuracies.get("cot")
    asked = row["fell_back"] or row["teacher_asked"]
    taught = row["fallback_solved"] if row["fell_back"] else row["teacher_kept"]
    lost = ""
    if row["decision"] in ("accepted", "rejected") and mine and theirs:
        first = Side(str(before["round"]) if before else "base", "", None, other)
        lost = lost_link(first, Side(str(row["round"]), "", row["round"], row["policy"]))
    return {
        "name": round_name(row["round"]),
        "decision": row["decision"] or "",
        "decision_name": (decision_in_short(row) or row["phase"]).replace("_", " "),
        "cot": _short(mine),
        "change": signed(mine["accuracy"] - theirs["accuracy"], "") if mine and theirs else NONE,
        "direct": _short(row["accuracy"]["direct"]),
        **{key: percent(row[key]) for key in ("pass_rate", "unparsable", "truncated", "flagged")},
        "majority": percent(row["majority"]),
        "pairs": f"{row['pairs']:,}" if row["pairs"] else NONE,
        "loss": NONE if row["training_loss"] is None else f"{row['training_loss']:.4f}",
        "taught": f"{taught}/{asked}" if asked else NONE,
        "suspects": str(row["suspects"]) if row["fell_back"] else NONE,
        "cost": f"{row['teacher_usd']:.2f}" if asked else NONE,
        "time": duration(sum(row["seconds"].values())) if row["seconds"] else NONE,
        "reason": row["reason"] or "",
        "lost": lost,
    }


def _short(found: dict[str, Any] | None) -> str:
    if not found:
        return NONE
    return f"{100 * found['accuracy']:.1f} [{100 * found['low']:.1f}, {100 * found['high']:.1f}]"


def blank_row() -> Row:
    """An empty row that questions.js fills."""
    return Row(0, "", (), "", None, "image", Tally(1, 2), Tally(0, 0))


def filter_context(found: Filter, sides: Sequence[Side], sets: Sequence[str]) -> dict[str, Any]:
    """The variables of the form above a list of questions."""
    return {"found": found, "sides": sides, "sets": sets, "shows": SHOWS}


def _environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(FOLDER / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(visible=visible, plain=plain, points=points, shade=shade)
    made.globals.update(round_name=round_name, clip=CLIP, charts_json=charts_json)
    return made


ENVIRONMENT = _environment()
