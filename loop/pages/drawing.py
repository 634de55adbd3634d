"""Parts of charts: lines and bars for ECharts, a tool tip per point, formatted figures.

Colours are names of custom properties of the style sheet ("var(--one)"); charts.js looks them up, so a chart
follows light and dark.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from loop.pages.escape import plain

Row = dict[str, Any]
Cell = str
NONE = "-"


@dataclass(frozen=True)
class Chart:
    """`tips` has one text per position on the horizontal axis; `options` is None if there is nothing to draw."""

    key: str
    title: str
    says: str
    options: Row | None
    tips: tuple[str, ...]
    columns: tuple[str, ...]
    table: tuple[tuple[Cell, ...], ...]


def percent(share: float | None, digits: int = 1) -> str:
    """A share as a percentage."""
    return NONE if share is None else f"{100 * share:.{digits}f}%"


def signed(difference: float, unit: str = " points") -> str:
    """A difference of shares in points with one digit, with its sign."""
    value = round(100 * difference, 1)
    return f"{sign(value)}{abs(value):.1f}{unit}"


def sign(value: float) -> str:
    """A plus sign, a minus sign of the same width, or nothing."""
    return "+" if value > 0 else "\N{MINUS SIGN}" if value < 0 else ""


def interval(found: Row | None) -> str:
    """An accuracy with its interval and its number of questions."""
    if not found:
        return NONE
    bounds = f"[{100 * found['low']:.1f}, {100 * found['high']:.1f}]"
    return f"{percent(found['accuracy'])} {bounds}, n = {found['questions']:,}"


def round_name(number: int) -> str:
    """The name of a round; round 0 is the cold start."""
    return "start" if number == 0 else str(number)


def make_chart(
    key: str,
    title: str,
    says: str,
    names: Sequence[str],
    series: list[Row],
    columns: tuple[str, ...],
    table: Sequence[tuple[Cell, ...]],
    *,
    y: Row,
    x_name: str = "round",
    second: Row | None = None,
    tip_rows: Sequence[tuple[Cell, ...]] | None = None,
    tip_columns: tuple[str, ...] | None = None,
) -> Chart:
    heads = tip_columns or columns
    tips = tuple(
        "\n".join(
            [f"{plain(heads[0])} {row[0]}", *(f"{head}: {cell}" for head, cell in zip(heads[1:], row[1:], strict=True))]
        )
        for row in (table if tip_rows is None else tip_rows)
    )
    options = {
        "xAxis": {"type": "category", "data": list(names), "name": x_name},
        "yAxis": [y] if second is None else [y, second],
        "series": series,
        "legend": {"data": [each["name"] for each in series if _in_legend(each)]},
    }
    return Chart(key, title, says, options if series else None, tips, columns, tuple(table))


def _in_legend(series: Row) -> bool:
    """Whether a series is named in the legend: bands and graphs are not."""
    return "name" in series and ("stack" not in series or series["type"] == "bar")


def line(name: str, values: Sequence[Any], colour: str) -> Row:
    style = {"lineStyle": {"width": 2, "color": colour}, "itemStyle": {"color": colour, "borderColor": colour}}
    few = {"symbol": "circle", "symbolSize": 8}
    return {"type": "line", "name": name, "data": _bordered(values, colour), **style, **few}


def hollow(value: float | None) -> Row:
    """A hollow point, for a rejected candidate."""
    return {"value": value, "itemStyle": {"color": "var(--page)"}}


def _bordered(values: Sequence[Any], colour: str) -> list[Any]:
    """A hollow point keeps the line's colour as its edge."""
    return [
        {**each, "itemStyle": {**each["itemStyle"], "borderColor": colour, "borderWidth": 2}}
        if isinstance(each, dict) and "itemStyle" in each
        else each
        for each in values
    ]


def bar(name: str, values: Sequence[float | None], colour: str) -> Row:
    return {
        "type": "bar",
        "name": name,
        "stack": "all",
        "barMaxWidth": 44,
        "data": list(values),
        "itemStyle": {"color": colour, "borderColor": "var(--card)", "borderWidth": 1},
    }


def point(found: Row | None, key: str) -> float | None:
    return None if found is None else round(100 * found[key], 2)


def ratio(part: int, of: int) -> float | None:
    return part / of if of else None


def share(part: int, of: int) -> float | None:
    return round(100 * part / of, 2) if of else None


def rounded(value: float | None, digits: int = 4) -> float | None:
    """A figure rounded for a chart; None if it is missing or infinite."""
    return None if value is None or not math.isfinite(value) else round(value, digits)


def decimal(value: float | None, digits: int = 4) -> str:
    return NONE if value is None else f"{value:,.{digits}f}"
