"""The accuracy log as a table that fits the terminal, and as CSV."""

import csv
import io
import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import click

from loop.config.prompt_styles import STYLES
from loop.reading.accuracy_log import accepted_alpha, decision_in_short, log_rows, name_policy
from loop.reading.text import format_duration
from loop.terminal.escape import one_line, spreadsheet_cell
from store import Store
from store.gate import best_policy
from store.rounds import served_last

LEVEL = 0.05
"""Changes with a smaller p are marked."""

BY_PHASE = "seconds by phase"
PHASES = ("sample", "judge", "update", "swap", "evaluate")
BARS = "▁▂▃▄▅▆▇█"
CURVE_ROUNDS = 60
GAP = "  "
MISSING = "-"

Row = dict[str, Any]


@dataclass(frozen=True)
class Column:
    """A column of the table. If not all fit, those of the highest rank are left out first; rank 0 always stays."""

    title: str
    width: int
    rank: int
    cell: Callable[[Row], str]
    name: str | None = None
    """Its name outside of the table."""


def format_log(store: Store, width: int | None = None, *, colour: bool = False) -> str:
    """The log as an aligned table with the curve below; the base model's accuracy is its first line.

    Without a width every column that has a figure is shown.
    """
    rows = with_base_row(log_rows(store))
    filled = [column for column in COLUMNS if column.rank == 0 or any(column.cell(row) != MISSING for row in rows)]
    wide = [replace(each, width=max(each.width, *(len(each.cell(row)) for row in rows), 0)) for each in filled]
    columns = fit_columns(wide, width)
    lines = [format_header(columns, colour=colour), *(format_row(row, columns, colour=colour) for row in rows)]
    said = [*_best(store, rows), *_notes(rows, columns, wide)]
    notes = [*_curves(rows), *(wrapped for note in said for wrapped in _wrap_note(note, width))]
    return "\n".join([*lines, "", *notes] if notes else lines)


def with_base_row(rows: Sequence[Row]) -> list[Row]:
    """The rows of the log, with one for the base model first if it was evaluated."""
    if not rows or not any((rows[0]["base_accuracy"] or {}).values()):
        return list(rows)
    return [{"round": "base", "policy": 0, "accuracy": rows[0]["base_accuracy"]}, *rows]


def fit_columns(columns: Sequence[Column], width: int | None) -> list[Column]:
    """The columns that fit in this width."""
    kept = list(columns)
    while width is not None and _width(kept) > width and any(column.rank for column in kept):
        kept.remove(max(reversed(kept), key=lambda column: column.rank))
    return kept


def _width(columns: Sequence[Column]) -> int:
    return sum(column.width for column in columns) + len(GAP) * (len(columns) - 1)


def format_header(columns: Sequence[Column], *, colour: bool = False) -> str:
    """The titles."""
    titles = GAP.join(column.title.rjust(column.width) for column in columns)
    return click.style(titles, bold=True) if colour else titles


def format_row(row: Row, columns: Sequence[Column], *, colour: bool = False) -> str:
    """One row."""
    cells = ((column, column.cell(row).rjust(column.width)) for column in columns)
    return GAP.join(_colour_cell(column, cell) if colour else cell for column, cell in cells)


def round_sentence(row: Row) -> str:
    """The result of a round as one sentence."""
    figures = [
        f"held-out {TITLES[style]} {_format_interval(row, style)} %, change {_format_change(row, style)}"
        for style in STYLES
        if row["accuracy"][style]
    ]
    name = "cold start" if row["round"] == 0 else f"round {row['round']}"
    decision = row["reason"] if row["decision"] == "no_update" else row["decision"]
    if row["decision"] == "rejected" and row["policy"] is None:
        decision = "training diverged"
    if (alpha := accepted_alpha(row)) is not None:
        decision = f"shrunk to {alpha:g} of its way, accepted"
    return f"{name}: {'; '.join([*figures, str(decision)])} ({_format_total_time(row)})"


def _colour_cell(column: Column, cell: str) -> str:
    text = cell.strip()
    if text in ("accepted", "rejected") or text.startswith("shrunk "):
        return click.style(cell, fg="red" if text == "rejected" else "green")
    if text.endswith("*"):
        return click.style(cell, fg="red" if text.startswith("-") else "green", bold=True)
    return click.style(cell, dim=True) if text == MISSING else cell


def _curves(rows: Sequence[Row]) -> Iterator[str]:
    """One line per style: its accuracies as bars, scaled from the lowest to the highest end of their intervals."""
    for style in STYLES:
        points = [row for row in rows if row["round"] != "base" and row["accuracy"][style]][-CURVE_ROUNDS:]
        if len(points) > 1:
            figures = [row["accuracy"][style] for row in points]
            best = max(points, key=lambda row: float(row["accuracy"][style]["accuracy"]))
            name = "the cold start" if best["round"] == 0 else f"round {best['round']}"
            first, last, top = (
                _format_percent(each["accuracy"]) for each in (figures[0], figures[-1], best["accuracy"][style])
            )
            yield f"held-out {TITLES[style]:6}  {sparkline(figures)}  {first} to {last} %, best {top} % in {name}"


def sparkline(figures: Sequence[Row]) -> str:
    """One bar per figure. The scale spans the intervals, so that noise looks small."""
    low, high = min(each["low"] for each in figures), max(each["high"] for each in figures)
    steps = len(BARS) - 1
    return "".join(BARS[round(steps * (each["accuracy"] - low) / max(high - low, 1e-9))] for each in figures)


def _best(store: Store, rows: Sequence[Row]) -> Iterator[str]:
    """The best policy, if the next round starts from another."""
    best, last = best_policy(store), served_last(store)
    if best != last:
        yield f"best: {name_policy(best, rows)}, by the gate's questions; rounds go on from policy {last}"


def _wrap_note(note: str, width: int | None) -> list[str]:
    return [note] if width is None else textwrap.wrap(note, width, subsequent_indent="  ")


def _notes(rows: Sequence[Row], columns: Sequence[Column], filled: Sequence[Column]) -> Iterator[str]:
    if any(_format_change(row, style).endswith("*") for row in rows for style in STYLES):
        yield f"* p < {LEVEL}, exact McNemar test against the policy that the round began from"
    if any(column.title == BY_PHASE for column in columns):
        yield f"{BY_PHASE}: {', '.join(PHASES)}"
    if hidden := [column.name or column.title for column in filled if column not in columns]:
        yield f"too narrow for: {', '.join(hidden)} (widen the terminal, or add --json)"


def log_csv(rows: Sequence[Row], *, titles: bool = True) -> str:
    """The rows as CSV; cells that look like a formula are made harmless."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    if titles:
        writer.writerow(CSV_COLUMNS)
    for row in rows:
        writer.writerow([spreadsheet_cell(_nested_value(row, name)) for name in CSV_COLUMNS])
    return text.getvalue()


def _nested_value(row: Row, name: str) -> Any:
    value: Any = row
    for part in name.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def _format_value(value: Any) -> str:
    return MISSING if value in (None, 0) else one_line(value)


def _format_percent(value: float | None) -> str:
    return MISSING if value is None else f"{100 * value:.1f}"


def _format_share(row: Row, key: str) -> str:
    return _format_percent(row.get(key))


def _format_interval(row: Row, style: str) -> str:
    figure = row["accuracy"][style]
    if figure is None:
        return MISSING
    return (
        f"{_format_percent(figure['accuracy'])} [{_format_percent(figure['low'])}, {_format_percent(figure['high'])}]"
    )


def _format_pairwise(row: Row, style: str) -> str:
    """The share of preference units that are judged right in both orders."""
    return _format_percent((row["accuracy"][style] or {}).get("pairwise", {}).get("accuracy"))


def _format_consistency(row: Row) -> str:
    """The share of preference units with the same verdict in both orders, by chains."""
    return _format_percent((row["accuracy"]["cot"] or {}).get("pairwise", {}).get("consistent"))


def _format_change(row: Row, style: str) -> str:
    change = (row.get("change") or {}).get(style)
    return MISSING if change is None else f"{100 * change['delta']:+.1f}{'*' if change['p_value'] < LEVEL else ''}"


def _format_gate(row: Row) -> str:
    found = row.get("gate")
    return MISSING if found is None else f"+{found['gained']} -{found['lost']} p {_format_p_value(found['p_value'])}"


def _format_p_value(p: float) -> str:
    return "<.001" if p < 0.001 else f"{p:.3f}".removeprefix("0")


def _format_teacher_answers(row: Row) -> str:
    if row.get("fell_back"):
        return f"{row['fallback_solved']}/{row['fell_back']}"
    return f"{row['teacher_kept']}/{row['teacher_asked']}" if row.get("teacher_asked") else MISSING


def _format_phase_seconds(row: Row) -> str:
    seconds = row.get("seconds")
    return (
        "/".join(f"{seconds[phase]:.0f}" if phase in seconds else MISSING for phase in PHASES) if seconds else MISSING
    )


def _format_total_time(row: Row) -> str:
    seconds = row.get("seconds")
    return format_duration(sum(seconds.values())) if seconds else MISSING


TITLES = {"cot": "CoT", "direct": "direct"}

COLUMNS = (
    Column("round", 5, 0, lambda row: "start" if row["round"] == 0 else str(row["round"])),
    Column("policy", 6, 9, lambda row: MISSING if row["policy"] is None else str(row["policy"])),
    Column("held-out CoT %", 19, 0, lambda row: _format_interval(row, "cot")),
    Column("change", 6, 0, lambda row: _format_change(row, "cot")),
    Column("held-out direct %", 19, 1, lambda row: _format_interval(row, "direct")),
    Column("change", 6, 5, lambda row: _format_change(row, "direct"), "change of direct"),
    Column("both orders CoT %", 17, 1, lambda row: _format_pairwise(row, "cot")),
    Column("both orders direct %", 20, 2, lambda row: _format_pairwise(row, "direct")),
    Column("consistent %", 12, 2, _format_consistency),
    Column("trained", 7, 6, lambda row: _format_value("+".join(row.get("stages") or ()) or None)),
    Column("gate", 16, 4, _format_gate),
    Column("gate %", 6, 10, lambda row: _format_percent((row.get("gate") or {}).get("accuracy"))),
    Column("pass %", 6, 1, lambda row: _format_share(row, "pass_rate")),
    Column("pass@k", 6, 5, lambda row: _format_share(row, "pass_at_k")),
    Column("maj@k", 5, 5, lambda row: _format_percent(row.get("majority"))),
    Column("unpars", 6, 6, lambda row: _format_share(row, "unparsable")),
    Column("trunc", 5, 8, lambda row: _format_share(row, "truncated")),
    Column("flag", 4, 8, lambda row: _format_share(row, "flagged")),
    Column("pairs", 5, 2, lambda row: _format_value(row.get("pairs"))),
    Column("loss", 6, 7, lambda row: MISSING if row.get("training_loss") is None else f"{row['training_loss']:.3f}"),
    Column("taught", 8, 5, _format_teacher_answers),
    Column("suspect", 7, 11, lambda row: _format_value(row.get("suspects"))),
    Column("teacher $", 9, 6, lambda row: f"{row['teacher_usd']:.2f}" if row.get("teacher_asked") else MISSING),
    Column("faithful", 8, 12, lambda row: _format_percent((row["accuracy"]["cot"] or {}).get("faithful"))),
    Column("time", 6, 3, _format_total_time),
    Column(BY_PHASE, 16, 9, _format_phase_seconds),
    Column("decision", 11, 0, lambda row: _format_value(decision_in_short(row) or row.get("phase"))),
)

CSV_COLUMNS = (
    *("round", "phase", "decision", "serving_policy", "policy", "compared_with", "best_policy"),
    *(f"accuracy.{style}.{part}" for style in STYLES for part in ("questions", "correct", "accuracy", "low", "high")),
    *(f"change.{style}.{part}" for style in STYLES for part in ("delta", "gained", "lost", "p_value")),
    *(f"gate.{part}" for part in ("split", "style", "questions", "accuracy", "low", "high")),
    *(f"gate.{part}" for part in ("gained", "lost", "p_value")),
    *("questions", "samples", "pass_rate", "pass_at_k", "majority", "unparsable", "truncated", "judge_errors"),
    *(f"accuracy.{style}.pairwise.{part}" for style in STYLES for part in ("units", "accuracy", "consistent")),
    *("flagged", "pairs", "stages", "training_items", "training_loss", "teacher_asked", "teacher_kept", "teacher_usd"),
    *("fell_back", "fallback_solved", "fallback_corrected", "suspects"),
    *(f"seconds.{phase}" for phase in ("distil", "sample", "judge", "fallback", "pair", "update", "swap")),
    *("seconds.evaluate", "seconds.gate", "reason"),
)
