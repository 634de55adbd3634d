"""The accuracy log: one row per round; every figure is a query on the store."""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from loop.config.prompt_styles import STYLES
from loop.errors import LoopError
from loop.evaluation.comparison import Comparison, compare, gate_split
from loop.evaluation.statistics import wilson_interval
from store import Store
from store.evaluations import unit_figures
from store.gate import trials_with_alpha
from store.summary import evaluation_figures, round_figures
from store.teacher.calls import count_reasons, spent

UNJUDGED = ("distil", "sample", "judge")
"""Phases during which some samples of the round are not judged."""
MEMORY = "phase, planned_host, before_host, peak_host, planned_card, peak_card"
GATE_FIGURES = ("questions", "accuracy", "low", "high")


def log_rows(store: Store, after: int = -1) -> list[dict[str, Any]]:
    """One dictionary per round, round 0 being the cold start; figures that do not exist yet are None.

    Shares of samples are None until all are judged.
    """
    return [_round_row(store, row) for row in store.rows("SELECT * FROM round WHERE number > ? ORDER BY number", after)]


def _round_row(store: Store, state: Any) -> dict[str, Any]:
    number, split = state["number"], reported_split(store)
    trials = [asdict(trial) | {"alpha": alpha} for trial, alpha in trials_with_alpha(store, number)]
    evaluated = None if _is_answering(state, trials) else state["candidate_policy"]
    base = 0 if number == 0 and state["phase"] != "evaluate" else None
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
    memory = [dict(row) for row in store.rows(f"SELECT {MEMORY} FROM phase_memory WHERE round = ?", number)]
    swaps = store.rows("SELECT seconds, probe_difference FROM swap WHERE round = ? ORDER BY id", number)
    assert votes is not None
    assert fell_back is not None

    def share(part: str, of: str = "samples") -> float | None:
        if figures is None or state["phase"] in UNJUDGED or not figures[of]:
            return None
        return float(figures[part] / figures[of])

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
        "stages": training["method"].split("+") if training else [],
        "training_items": training["items"] if training else None,
        "training_loss": training["loss"] if training else None,
        "accuracy": {style: accuracy(store, evaluated, style, split) for style in STYLES},
        "base_accuracy": {style: accuracy(store, base, style, split) for style in STYLES} if number == 0 else None,
        "change": {style: _change(store, evaluated, state["serving_policy"], style, split) for style in STYLES},
        "gate": _gate(store, state, split),
        "compared_with": state["compared_with"],
        "trials": trials,
        "best_policy": state["best_policy"],
        "decision": state["decision"],
        "reason": state["reason"],
        "seconds": {phase: round(value, 3) for phase, value in seconds.items()},
        "memory": {row.pop("phase"): row for row in memory},
        "swaps": [dict(swap) for swap in swaps],
    }


def _is_answering(state: Any, trials: list[dict[str, Any]]) -> bool:
    """Whether the round's candidate is answering the reported questions; a shrunk one does so after its acceptance.

    Short answers finish first, so an accuracy over the answers so far would be biased.
    """
    shrunk = any(each["accepted"] and each["alpha"] is not None for each in trials)
    return state["phase"] == "evaluate" or (state["phase"] == "gate" and shrunk)


def accepted_alpha(row: dict[str, Any]) -> float | None:
    """The alpha of a round's accepted shrunk policy, from its row; None if there is none."""
    if row.get("decision") != "accepted":
        return None
    return next((trial["alpha"] for trial in row["trials"] if trial["accepted"]), None)


def decision_in_short(row: dict[str, Any]) -> str | None:
    """A round's decision, "shrunk 0.5" for an accepted shrunk policy; None before the decision."""
    alpha = accepted_alpha(row)
    decision: str | None = row.get("decision") if alpha is None else f"shrunk {alpha:g}"
    return decision


def name_policy(policy: int, rows: Sequence[dict[str, Any]]) -> str:
    """A policy with the round that made it: "policy 4 (round 3)"."""
    if policy == 0:
        return "policy 0 (the base model)"
    made = next((row["round"] for row in rows if row["policy"] == policy), None)
    if made is None:
        return f"policy {policy}"
    return f"policy {policy} ({'the cold start' if made == 0 else f'round {made}'})"


def accuracy(store: Store, policy: int | None, style: str, split: str) -> dict[str, Any] | None:
    """A policy's accuracy on a split in one style with its 95% Wilson interval; None if not evaluated.

    `kinds` maps each kind of question to (questions, accuracy); `faithful` is the share of chains
    whose statements about the image are true, if the source can check them; `tokens` is the mean length; `pairwise` has
    figures of units, if there are preference questions.
    """
    kinds = [] if policy is None else evaluation_figures(store, policy, split, style)
    questions = sum(row["questions"] for row in kinds)
    if not questions:
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
        **_pairwise(store, policy, style, split),
    }


def _pairwise(store: Store, policy: int | None, style: str, split: str) -> dict[str, Any]:
    """Shares of preference units that are right in both orders, and that have the same verdict in both."""
    rows = [] if policy is None else unit_figures(store, policy, split, style)
    units = sum(row["units"] for row in rows)
    if not units:
        return {}
    correct = sum(row["correct"] for row in rows)
    low, high = wilson_interval(correct, units)
    return {
        "pairwise": {
            "units": units,
            "accuracy": correct / units,
            "low": low,
            "high": high,
            "consistent": sum(row["consistent"] for row in rows) / units,
            "kinds": {row["kind"]: (row["units"], row["correct"] / row["units"]) for row in rows if row["kind"]},
        }
    }


def _change(store: Store, policy: int | None, serving: int, style: str, split: str) -> dict[str, Any] | None:
    """The candidate compared with the policy that the round began from, on the reported questions."""
    if policy is None:
        return None
    found = compare(store, policy, serving, split, style)
    return {"against": serving, "delta": found.delta, **_test_figures(found)} if found.questions else None


def _gate(store: Store, state: Any, reported: str) -> dict[str, Any] | None:
    """The gate's figures: the candidate's accuracy on its questions, and the comparison that decided."""
    candidate, other = state["candidate_policy"], state["compared_with"]
    if candidate is None or other is None:
        return None
    split, style = gate_split(store, reported), trained_style(store)
    figure, found = accuracy(store, candidate, style, split), compare(store, candidate, other, split, style)
    if figure is None:
        return None
    return {"split": split, "style": style, **{key: figure[key] for key in GATE_FIGURES}, **_test_figures(found)}


def _test_figures(found: Comparison) -> dict[str, Any]:
    return {"gained": found.gained, "lost": found.lost, "p_value": found.p_value}


def trained_style(store: Store) -> str:
    """The prompt style that the run samples and trains, to which the gate's rule applies."""
    return str(_configured(store, "$.sampling.style", "cot"))


def reported_split(store: Store) -> str:
    """The held-out split whose accuracy is reported."""
    return str(_configured(store, "$.evaluation.split", "test"))


def _configured(store: Store, path: str, default: str) -> Any:
    value = store.value("SELECT json_extract(configuration, ?) FROM run", path)
    return default if value is None else value


def append_finished_rounds(store: Store, path: Path) -> None:
    """Append the rows of finished rounds that the file lacks; half a line left by a crash is removed."""
    content = path.read_bytes() if path.exists() else b""
    whole = content[: content.rfind(b"\n") + 1]
    try:
        latest = json.loads(whole.splitlines()[-1])["round"] if whole else -1
    except (ValueError, KeyError, TypeError) as error:
        raise LoopError(f"{path}: its last line is damaged; delete the file, it is written anew") from error
    missing = [row for row in log_rows(store, after=latest) if row["phase"] == "done"]
    with path.open("r+b" if path.exists() else "wb") as file:
        file.truncate(len(whole))
        file.seek(len(whole))
        for row in missing:
            file.write(json.dumps(row).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())
