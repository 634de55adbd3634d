"""The lists of `show`: one line per record, as wide as the terminal."""

from collections.abc import Callable, Sequence
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from loop.reading.records import Record
from loop.terminal.escape import one_line

GAP = 2
DROPPED_FIRST = ("weight", "kind", "author", "sha256", "made by", "rule", "gate", "round", "accepted")
"""Columns that are left out, in this order, if not all fit."""
MIN_LAST_WIDTH = 20
"""The smallest width of the last column."""
OUTCOME_STYLES = {"correct": "green", "accepted": "green", "solved": "green", "wrong": "red", "rejected": "red"}

Columns = list[tuple[str, list[Any]]]


def list_table(kind: str, records: Sequence[Record], width: int) -> Table:
    """One line per record, cut at the right."""
    return make_table(LISTS[kind](records), width)


def make_table(columns: Columns, width: int | None = None) -> Table:
    """Aligned columns. With a width, the last column gets the rest, and some columns are left out for it."""
    cells = [
        (title, [format_cell(value) for value in values], title.endswith("%") or _is_number(values))
        for title, values in columns
    ]
    for title in DROPPED_FIRST:
        if (
            width is not None
            and sum(map(_column_width, cells[:-1])) + min(MIN_LAST_WIDTH, _column_width(cells[-1])) > width
        ):
            cells = [each for each in cells[:-1] if each[0] != title] + cells[-1:]
    drawn = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, GAP - 1, 0, 0))
    for n, (title, _, number) in enumerate(cells, start=1):
        last = width is not None and n == len(cells)
        most = max(MIN_LAST_WIDTH, width - sum(map(_column_width, cells[:-1]))) if last and width is not None else None
        drawn.add_column(title, justify="right" if number else "left", no_wrap=True, max_width=most)
    for row in zip(*(values for _, values, _ in cells), strict=True):
        drawn.add_row(*row)
    return drawn


def _is_number(values: list[Any]) -> bool:
    return all(isinstance(value, int | float | None) for value in values)


def _column_width(column: tuple[str, list[Text], bool]) -> int:
    """The width of a column with the gap after it."""
    title, values, _ = column
    return max(len(title), *(value.cell_len for value in values)) + GAP


def format_cell(value: Any) -> Text:
    if value is None:
        return Text("-", style="dim")
    if isinstance(value, float):
        return Text(f"{value:.3f}".rstrip("0").rstrip("."))
    text = one_line(", ".join(map(str, value)) if isinstance(value, list) else value, 300)
    return Text(text, style=OUTCOME_STYLES.get(text, ""))


def filled_columns(records: Sequence[Record], **keys: str) -> Columns:
    """Columns by title, each with the values of a key; empty ones are left out."""
    columns = [(title.replace("_", " "), [record.get(key) for record in records]) for title, key in keys.items()]
    return [(title, values) for title, values in columns if any(value is not None for value in values)]


def _questions(records: Sequence[Record]) -> Columns:
    changed = filled_columns(
        records, before="outcome_before", now="outcome", answered="answer_before", answers="answer"
    )
    in_round = filled_columns(records, samples="samples", right="correct", majority="majority", vote="outcome")
    return [
        *filled_columns(records, id="id", split="split", kind="kind", suspect_in="suspect", unusable="unusable"),
        *(changed if records and "outcome_before" in records[0] else in_round),
        *filled_columns(records, accepted="answers", question="text"),
    ]


def _samples(records: Sequence[Record]) -> Columns:
    first = filled_columns(records, id="id", round="round", question="question", author="author", policy="policy")
    return first + filled_columns(records, outcome="outcome", answer="extracted", tokens="tokens", chain="text")


def _pairs(records: Sequence[Record]) -> Columns:
    first = filled_columns(records, id="pair", round="round", question="question", rule="rule", weight="weight")
    answers = filled_columns(records, accepted="answers", chosen="chosen_answer", rejected="rejected_answer")
    return first + answers + filled_columns(records, text="question_text")


def _rounds(records: Sequence[Record]) -> Columns:
    first = filled_columns(records, id="number", phase="phase", decision="decision", serving="serving_policy")
    return first + filled_columns(records, candidate="candidate_policy", against="compared_with", reason="reason")


def _policies(records: Sequence[Record]) -> Columns:
    shown = [{**record, **_made_from(record), "score": _last_score(record)} for record in records]
    first = filled_columns(
        shown, id="policy", parent="parent", alpha="alpha", made_by="made_by", round="round", decision="decision"
    )
    first += filled_columns(shown, gate="score")
    accuracies = filled_columns(records, CoT="cot_accuracy", direct="direct_accuracy")
    percents = [
        (f"{title} %", [None if v is None else f"{100 * v:.1f}" for v in values]) for title, values in accuracies
    ]
    short = [{**record, "deleted": (record["deleted"] or "")[:10] or None} for record in records]
    weights = ("sha256", [record["sha256"][:12] for record in records])
    return [
        *first,
        *percents,
        *filled_columns(short, deleted="deleted"),
        weights,
        *filled_columns(records, ancestors="ancestors"),
    ]


def _made_from(record: Record) -> Record:
    """A policy's parent; for a shrunk one both parents and its alpha."""
    if record["alpha"] is None:
        return {"parent": record["parent"]}
    return {"parent": f"{record['parent']}, {record['other_parent']}", "alpha": f"{record['alpha']:g}"}


def _last_score(record: Record) -> str | None:
    return format_score(record["trials"][-1]) if record["trials"] else None


def format_score(trial: Record) -> str:
    """A candidate's score difference at the gate in points, with its standard error: "-3.00 (1.00)"."""
    return f"{100 * trial['difference']:+.2f} ({100 * trial['error']:.2f})"


LISTS: dict[str, Callable[[Sequence[Record]], Columns]] = {
    "question": _questions,
    "sample": _samples,
    "pair": _pairs,
    "round": _rounds,
    "policy": _policies,
}
