"""The accuracy log: a row a round, every figure a query on the store."""

import json
import os
from pathlib import Path
from typing import Any

from loop.statistics import wilson_interval
from store import Store
from store.summary import round_figures
from store.teacher_calls import count_reasons, spent

STYLES = ("cot", "direct")
PHASE_SECONDS = ("sample", "judge", "update", "swap", "evaluate")


def log_rows(store: Store) -> list[dict[str, Any]]:
    """One dictionary a round, round 0 being the cold start; figures that do not exist yet are None."""
    return [_round_row(store, row) for row in store.rows("SELECT * FROM round ORDER BY number")]


def _round_row(store: Store, state: Any) -> dict[str, Any]:
    number, split = state["number"], reported_split(store)
    figures = round_figures(store, number)
    votes = store.row(
        "SELECT count(outcome) AS questions, sum(outcome = 'correct') AS correct, avg(share) AS share"
        " FROM vote WHERE round = ?",
        number,
    )
    calls = count_reasons(store, number)
    fell_back = store.row(
        "SELECT count(*) AS questions, coalesce(sum(outcome IN ('solved', 'corrected')), 0) AS solved,"
        " coalesce(sum(outcome = 'corrected'), 0) AS corrected, coalesce(sum(outcome = 'suspect'), 0) AS suspects"
        " FROM fallback WHERE round = ?",
        number,
    )
    training = store.row("SELECT * FROM training WHERE round = ?", number)
    times = store.rows("SELECT phase, seconds FROM phase_time WHERE round = ?", number)
    seconds = {row["phase"]: row["seconds"] for row in times}
    swaps = store.rows("SELECT seconds, probe_difference FROM swap WHERE round = ? ORDER BY id", number)
    assert votes is not None
    assert fell_back is not None

    def share(part: str, of: str = "samples") -> float | None:
        return figures[part] / figures[of] if figures is not None and figures[of] else None

    return {
        "round": number,
        "phase": state["phase"],
        "serving_policy": state["serving_policy"],
        "policy": state["candidate_policy"],
        "questions": 0 if figures is None else figures["questions"],
        "samples": 0 if figures is None else figures["samples"],
        "pass_rate": share("labelled_correct", "labelled"),
        "pass_at_k": share("solved", "labelled_questions"),
        "unparsable": share("unparsable"),
        "truncated": share("truncated"),
        "judge_errors": share("judge_error"),
        "flagged": share("flagged"),
        "majority": votes["correct"] / votes["questions"] if votes["questions"] else None,
        "vote_share": votes["share"],
        "teacher_asked": sum(calls.values()),
        "teacher_kept": calls.pop("kept", 0),
        "teacher_dropped": calls,
        "teacher_usd": spent(store, number)[1],
        "fell_back": fell_back["questions"],
        "fallback_solved": fell_back["solved"],
        "fallback_corrected": fell_back["corrected"],
        "suspects": fell_back["suspects"],
        "pairs": store.value("SELECT count(*) FROM pair WHERE round = ?", number),
        "training_items": training["items"] if training else None,
        "training_loss": training["loss"] if training else None,
        "accuracy": {style: accuracy(store, state["candidate_policy"], style, split) for style in STYLES},
        "base_accuracy": {style: accuracy(store, 0, style, split) for style in STYLES} if number == 0 else None,
        "compared_with": state["compared_with"],
        "decision": state["decision"],
        "reason": state["reason"],
        "seconds": {phase: round(value, 3) for phase, value in seconds.items()},
        "swaps": [dict(swap) for swap in swaps],
    }


def accuracy(store: Store, policy: int | None, style: str, split: str) -> dict[str, Any] | None:
    """A policy's accuracy on a split in one style with its 95% Wilson interval; None if not evaluated.

    `kinds` maps each kind of question to (questions, accuracy); `faithful` is the share of chains
    whose own statements are true, where the source can check them; `tokens` the mean length.
    """
    kinds = store.rows(BY_KIND, policy, style, split)
    questions = sum(row["questions"] for row in kinds)
    if policy is None or not questions:
        return None
    correct = sum(row["correct"] for row in kinds)
    checked = sum(row["checked"] for row in kinds)
    low, high = wilson_interval(correct, questions)
    return {
        "questions": questions,
        "correct": correct,
        "accuracy": correct / questions,
        "low": low,
        "high": high,
        "unparsable": sum(row["unparsable"] for row in kinds) / questions,
        "truncated": sum(row["truncated"] for row in kinds) / questions,
        "tokens": sum(row["tokens"] for row in kinds) / questions,
        "faithful": sum(row["faithful"] for row in kinds) / checked if checked else None,
        "kinds": {row["kind"]: (row["questions"], row["correct"] / row["questions"]) for row in kinds if row["kind"]},
    }


def reported_split(store: Store) -> str:
    """The held-out split whose accuracy is reported."""
    split = store.value("SELECT json_extract(configuration, '$.evaluation.split') FROM run")
    return "test" if split is None else str(split)


BY_KIND = """
SELECT question.kind, count(*) AS questions, sum(outcome = 'correct') AS correct, sum(tokens) AS tokens,
       sum(outcome = 'unparsable') AS unparsable, sum(outcome = 'truncated') AS truncated,
       coalesce(sum(faithful), 0) AS faithful, count(faithful) AS checked
FROM evaluation JOIN question ON question.id = evaluation.question
WHERE policy = ? AND style = ? AND evaluation.split = ? GROUP BY question.kind ORDER BY question.kind"""

BASE_HAS_NO = ("questions", "samples", "pass_rate", "unparsable", "truncated", "flagged", "majority")

COLUMNS = (
    ("round", 6),
    ("policy", 6),
    ("questions", 9),
    ("samples", 7),
    ("pass", 6),
    ("unpars", 6),
    ("trunc", 6),
    ("flag", 6),
    ("maj@k", 6),
    ("taught", 9),
    ("suspect", 7),
    ("teacher $", 9),
    ("pairs", 6),
    ("loss", 7),
    ("held-out CoT", 18),
    ("faithful", 8),
    ("held-out direct", 18),
    ("decision", 10),
    ("seconds: sample/judge/train/swap/eval", 38),
)


def format_log(store: Store) -> str:
    """The log as an aligned table; the base model's accuracy is its first line."""
    rows = log_rows(store)
    lines = ["  ".join(title.rjust(width) for title, width in COLUMNS)]
    if rows and rows[0]["base_accuracy"]["cot"]:
        blank = dict.fromkeys(BASE_HAS_NO)
        base = {"round": "base", "policy": 0, "accuracy": rows[0]["base_accuracy"], **blank}
        lines.append(_line(base))
    lines += [_line(row) for row in rows]
    return "\n".join(lines)


def _line(row: dict[str, Any]) -> str:
    seconds = row.get("seconds") or {}
    asked = row.get("fell_back") or row.get("teacher_asked")
    taught = row.get("fallback_solved") if row.get("fell_back") else row.get("teacher_kept")
    cells = (
        "start" if row["round"] == 0 else str(row["round"]),
        _number(row["policy"]),
        _number(row["questions"] or None),
        _number(row["samples"] or None),
        _percent(row["pass_rate"]),
        _percent(row["unparsable"]),
        _percent(row["truncated"]),
        _percent(row["flagged"]),
        _percent(row["majority"]),
        f"{taught}/{asked}" if asked else "-",
        str(row["suspects"]) if row.get("fell_back") else "-",
        f"{row['teacher_usd']:.2f}" if asked else "-",
        _number(row.get("pairs") or None),
        "-" if row.get("training_loss") is None else f"{row['training_loss']:.4f}",
        _interval(row["accuracy"]["cot"]),
        _percent((row["accuracy"]["cot"] or {}).get("faithful")),
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
