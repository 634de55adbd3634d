"""The accuracy log: a row a round, every figure a query on the store."""

import json
import os
from pathlib import Path
from typing import Any

from loop.statistics import wilson_interval
from store import Store
from store.summary import round_figures

PHASE_SECONDS = ("sample", "judge", "update", "swap", "evaluate")


def log_rows(store: Store) -> list[dict[str, Any]]:
    """One dictionary a round, round 0 being the cold start; figures that do not exist yet are None."""
    return [_round_row(store, row) for row in store.rows("SELECT * FROM round ORDER BY number")]


def _round_row(store: Store, state: Any) -> dict[str, Any]:
    number = state["number"]
    figures = round_figures(store, number)
    sampled = dict.fromkeys(("samples", "questions"), 0) if figures is None else dict(figures)
    calls = store.row(
        "SELECT count(*) AS asked, coalesce(sum(status = 'kept'), 0) AS kept FROM teacher_call WHERE round = ?",
        number,
    )
    training = store.row("SELECT * FROM training WHERE round = ?", number)
    times = store.rows("SELECT phase, seconds FROM phase_time WHERE round = ?", number)
    seconds = {row["phase"]: row["seconds"] for row in times}
    swaps = store.rows("SELECT seconds, probe_difference FROM swap WHERE round = ? ORDER BY id", number)
    assert calls is not None
    samples = sampled["samples"]

    def share(part: int | None) -> float | None:
        return part / samples if samples and part is not None else None

    return {
        "round": number,
        "phase": state["phase"],
        "serving_policy": state["serving_policy"],
        "policy": state["candidate_policy"],
        "questions": sampled["questions"],
        "samples": samples,
        "pass_rate": share(sampled.get("correct")),
        "unparsable": share(sampled.get("unparsable")),
        "truncated": share(sampled.get("truncated")),
        "teacher_asked": calls["asked"],
        "teacher_kept": calls["kept"],
        "pairs": store.value("SELECT count(*) FROM pair WHERE round = ?", number),
        "training_items": training["items"] if training else None,
        "training_loss": training["loss"] if training else None,
        "accuracy": {style: accuracy(store, state["candidate_policy"], style) for style in ("cot", "direct")},
        "base_accuracy": {style: accuracy(store, 0, style) for style in ("cot", "direct")} if number == 0 else None,
        "decision": state["decision"],
        "reason": state["reason"],
        "seconds": {phase: round(value, 3) for phase, value in seconds.items()},
        "swaps": [dict(swap) for swap in swaps],
    }


def accuracy(store: Store, policy: int | None, style: str) -> dict[str, Any] | None:
    """A policy's held-out accuracy in one style with its 95% Wilson interval; None if not evaluated."""
    row = store.row(
        "SELECT count(*) AS questions, sum(outcome = 'correct') AS correct, sum(outcome = 'unparsable')"
        " AS unparsable, sum(outcome = 'truncated') AS truncated FROM evaluation WHERE policy = ? AND style = ?",
        policy,
        style,
    )
    if policy is None or row is None or not row["questions"]:
        return None
    low, high = wilson_interval(row["correct"], row["questions"])
    return {
        "questions": row["questions"],
        "correct": row["correct"],
        "accuracy": row["correct"] / row["questions"],
        "low": low,
        "high": high,
        "unparsable": row["unparsable"] / row["questions"],
        "truncated": row["truncated"] / row["questions"],
    }


COLUMNS = (
    ("round", 6),
    ("policy", 6),
    ("questions", 9),
    ("samples", 7),
    ("pass", 6),
    ("unpars", 6),
    ("trunc", 6),
    ("taught", 9),
    ("pairs", 6),
    ("loss", 7),
    ("held-out CoT", 18),
    ("held-out direct", 18),
    ("decision", 10),
    ("seconds: sample/judge/train/swap/eval", 38),
)


def format_log(store: Store) -> str:
    """The log as an aligned table; the base model's accuracy is its first line."""
    rows = log_rows(store)
    lines = ["  ".join(title.rjust(width) for title, width in COLUMNS)]
    if rows and rows[0]["base_accuracy"]["cot"]:
        blank = dict.fromkeys(("questions", "samples", "pass_rate", "unparsable", "truncated"))
        base = {"round": "base", "policy": 0, "accuracy": rows[0]["base_accuracy"], **blank}
        lines.append(_line(base))
    lines += [_line(row) for row in rows]
    return "\n".join(lines)


def _line(row: dict[str, Any]) -> str:
    seconds = row.get("seconds") or {}
    asked = row.get("teacher_asked")
    cells = (
        "start" if row["round"] == 0 else str(row["round"]),
        _number(row["policy"]),
        _number(row["questions"] or None),
        _number(row["samples"] or None),
        _percent(row["pass_rate"]),
        _percent(row["unparsable"]),
        _percent(row["truncated"]),
        f"{row['teacher_kept']}/{asked}" if asked else "-",
        _number(row.get("pairs") or None),
        "-" if row.get("training_loss") is None else f"{row['training_loss']:.4f}",
        _interval(row["accuracy"]["cot"]),
        _interval(row["accuracy"]["direct"]),
        row.get("decision") or row.get("phase") or "-",
        "/".join(_seconds(seconds.get(phase)) for phase in PHASE_SECONDS),
    )
    return "  ".join(cell.rjust(width) for cell, (_, width) in zip(cells, COLUMNS, strict=True))


def _number(value: int | None) -> str:
    return "-" if value is None else str(value)


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}%"


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _interval(figure: dict[str, Any] | None) -> str:
    if figure is None:
        return "-"
    return f"{100 * figure['accuracy']:.1f}% [{100 * figure['low']:.1f}, {100 * figure['high']:.1f}]"


def append_finished_rounds(store: Store, path: Path) -> None:
    """Append the rows of finished rounds that the file lacks; half a line of a crash is cut off."""
    content = path.read_bytes() if path.exists() else b""
    whole = content[: content.rfind(b"\n") + 1]
    present = {json.loads(line)["round"] for line in whole.splitlines()}
    missing = [r for r in log_rows(store) if r["phase"] == "done" and r["round"] not in present]
    with path.open("r+b" if path.exists() else "wb") as file:
        file.truncate(len(whole))
        file.seek(len(whole))
        for row in missing:
            file.write(json.dumps(row).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())
