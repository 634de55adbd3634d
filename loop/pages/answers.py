"""Answers that policies give too often: a chart by round, and a table of the last round."""

from dataclasses import dataclass
from typing import Any

from loop.pages.charts import COLOURS, STYLE_NAMES
from loop.pages.drawing import NONE, Cell, Chart, Row, hollow, line, make_chart, percent, round_name, signed
from loop.pages.escape import plain
from loop.pages.figures import Figures
from loop.reading.accuracy_log import decision_in_short

DRAWN = 4
"""Answers in the chart, the commonest ones of the last round."""
SHOWN_CHARACTERS = 40
COLUMNS = ("answer", "accepted", "given before", "given after", "pairs for", "pairs against")


@dataclass(frozen=True)
class AnswersSection:
    """The chart, and the table with its caption."""

    chart: Chart
    says: str
    columns: tuple[str, ...]
    table: tuple[tuple[Cell, ...], ...]


def answers_section(figures: Figures) -> AnswersSection:
    """The overview's section on answers; without a table if no answer recurs."""
    return AnswersSection(_chart(figures), _says(figures), COLUMNS, tuple(map(_row, figures.balance)))


def _says(figures: Figures) -> str:
    if not figures.balance:
        return "No candidate was evaluated yet, or no answer is accepted for 1% of the held-out questions."
    row = _last_round(figures)
    found = row["accuracy"][figures.style]
    return (
        f"Round {round_name(row['round'])}, {found['questions']:,} held-out questions,"
        f" {STYLE_NAMES[figures.style]}: policy {row['serving_policy']} before, policy {row['policy']} after"
        f" ({decision_in_short(row) or 'not decided yet'}). Pairs by their weight."
    )


def _last_round(figures: Figures) -> dict[str, Any]:
    return next(row for row in figures.rounds if row["round"] == max(figures.answers))


def _row(row: dict[str, Any]) -> tuple[Cell, ...]:
    shares = (percent(row[key]) for key in ("accepted", "before", "after"))
    return _name(row["answer"]), *shares, *(f"{round(row[key], 1):,g}" for key in ("chosen", "rejected"))


def _name(answer: str) -> str:
    shown = plain(answer)
    return shown if len(shown) <= SHOWN_CHARACTERS else f"{shown[:SHOWN_CHARACTERS]}…"


def _chart(figures: Figures) -> Chart:
    numbers = sorted(figures.answers)
    last = figures.answers[numbers[-1]] if numbers else {}
    decisions = {row["round"]: row["decision"] for row in figures.rounds}
    drawn = list(last)[:DRAWN]

    def height(number: int, answer: str) -> Any:
        found = figures.answers[number].get(answer)
        value = None if found is None else round(100 * (found[1] - found[0]), 2)
        return hollow(value) if decisions[number] == "rejected" else value

    series = [
        line(_name(answer), [height(number, answer) for number in numbers], colour)
        for answer, colour in zip(drawn, COLOURS, strict=False)
    ]
    if series:
        series[0]["markLine"] = _zero()
    table = [
        (round_name(number), *(_cell(figures.answers[number].get(answer)) for answer in drawn)) for number in numbers
    ]
    heads = (f"{_name(answer)}, accepted {percent(last[answer][0])}" for answer in drawn)
    evaluated = sum(row["accuracy"][figures.style] is not None for row in figures.rounds)
    shown = "" if len(numbers) == evaluated else f" {len(numbers)} of {evaluated} rounds."
    return make_chart(
        "answers",
        "Drift of answers",
        "Share of held-out questions to which an answer is given, minus the share for which it is accepted. Above 0 it"
        f" is given too often. Hollow: rejected.{shown}",
        [round_name(number) for number in numbers],
        series,
        ("round", *heads),
        table if drawn else [],
        y={"name": "given minus accepted, points"},
    )


def _zero() -> Row:
    """The line at zero: answers are given as often as they are accepted."""
    style = {"color": "var(--muted)", "type": "solid", "width": 1}
    return {"data": [{"yAxis": 0}], "symbol": "none", "silent": True, "label": {"show": False}, "lineStyle": style}


def _cell(found: tuple[float, float] | None) -> Cell:
    return NONE if found is None else f"{signed(found[1] - found[0], '')} ({percent(found[1])})"
