"""Columns of the frames of `open_run`, in order, with their types.

`docs/notebook.md` gives the meaning and unit of each.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from loop.config.prompt_styles import STYLES

if TYPE_CHECKING:
    from sqlite3 import Row

    import pandas as pd

INTEGER, COUNT, NUMBER, TEXT, FLAG = "int64", "Int64", "float64", "string", "boolean"
LIST, TIME = "list", "time"
"""`int64` is never missing, `Int64` may be; a missing number is NaN. A list is a Python list, a time is in UTC."""

Columns = Mapping[str, str]

PHASES = ("distil", "sample", "judge", "fallback", "pair", "update", "swap", "evaluate", "gate")


def _held_out_columns() -> dict[str, str]:
    figures = {"accuracy": NUMBER, "low": NUMBER, "high": NUMBER, "questions": COUNT}
    return {f"{style}_{name}": kind for style in STYLES for name, kind in figures.items()}


ROUNDS: Columns = {
    "round": INTEGER,
    "phase": TEXT,
    "serving_policy": INTEGER,
    "policy": COUNT,
    "compared_with": COUNT,
    "decision": TEXT,
    "reason": TEXT,
    "started": TIME,
    "finished": TIME,
    "questions": INTEGER,
    "samples": INTEGER,
    **dict.fromkeys(("pass_rate", "pass_at_k", "majority", "vote_share"), NUMBER),
    **dict.fromkeys(("unparsable", "truncated", "judge_errors", "flagged"), NUMBER),
    **dict.fromkeys(("teacher_asked", "teacher_kept"), INTEGER),
    "teacher_usd": NUMBER,
    **dict.fromkeys(("fell_back", "fallback_solved", "fallback_corrected", "suspects"), INTEGER),
    "pairs": INTEGER,
    "training_items": COUNT,
    "training_loss": NUMBER,
    **_held_out_columns(),
    "seconds": NUMBER,
    **{f"{phase}_seconds": NUMBER for phase in PHASES},
}

SAMPLES: Columns = {
    "sample": INTEGER,
    "round": INTEGER,
    "question": INTEGER,
    "author": TEXT,
    "policy": COUNT,
    "style": TEXT,
    "index": INTEGER,
    "text": TEXT,
    "outcome": TEXT,
    "extracted": TEXT,
    "score": NUMBER,
    "tokens": INTEGER,
    "logprob": NUMBER,
    "finish_reason": TEXT,
    "temperature": NUMBER,
    "seed": COUNT,
    "judge": TEXT,
    "judge_version": TEXT,
    "created": TIME,
}

PAIRS: Columns = {
    "pair": INTEGER,
    "round": INTEGER,
    "rule": TEXT,
    "source": TEXT,
    "weight": NUMBER,
    "question": INTEGER,
    "question_text": TEXT,
    "answers": LIST,
    "images": LIST,
    "style": TEXT,
    **{
        f"{side}_{name}": kind
        for side in ("chosen", "rejected")
        for name, kind in {
            "sample": INTEGER,
            "text": TEXT,
            "author": TEXT,
            "policy": COUNT,
            "outcome": TEXT,
            "answer": TEXT,
            "weights": TEXT,
            "seed": COUNT,
        }.items()
    },
}

QUESTIONS: Columns = {
    "question": INTEGER,
    "text": TEXT,
    "answers": LIST,
    "choices": LIST,
    "images": LIST,
    "split": TEXT,
    "kind": TEXT,
    "judge": TEXT,
    "source": TEXT,
    "external_id": TEXT,
    "suspect": COUNT,
    "hash": TEXT,
}

EVALUATIONS: Columns = {
    "evaluation": INTEGER,
    "policy": INTEGER,
    "split": TEXT,
    "style": TEXT,
    "question": INTEGER,
    "text": TEXT,
    "outcome": TEXT,
    "extracted": TEXT,
    "score": NUMBER,
    "faithful": FLAG,
    "flags": LIST,
    "tokens": INTEGER,
    "finish_reason": TEXT,
    "judge": TEXT,
    "judge_version": TEXT,
    "created": TIME,
}

POLICIES: Columns = {
    "policy": INTEGER,
    "parent": COUNT,
    "generation": INTEGER,
    "ancestors": TEXT,
    "made_by": TEXT,
    "round": COUNT,
    "decision": TEXT,
    **_held_out_columns(),
    "sha256": TEXT,
    "path": TEXT,
    "created": TIME,
    "deleted": TIME,
}

STEPS: Columns = {
    "round": INTEGER,
    "policy": INTEGER,
    "step": INTEGER,
    "method": TEXT,
    "loss": NUMBER,
    "learning_rate": NUMBER,
    "margin": NUMBER,
    "accuracy": NUMBER,
}


def frame(rows: Iterable[Mapping[str, Any] | Row], columns: Columns) -> pd.DataFrame:
    """A frame of these columns with their types, even without rows."""
    import pandas as pd

    kept = [[row[name] for name in columns] for row in rows]
    made = pd.DataFrame(kept, columns=list(columns), dtype=object)
    return made.assign(**{name: _typed(made[name], kind) for name, kind in columns.items()})


def _typed(column: pd.Series[Any], kind: str) -> pd.Series[Any]:
    import json

    import pandas as pd

    if kind == LIST:
        return column.map(json.loads)
    if kind == TIME:
        moments = [pd.Timestamp(each, unit="s") if isinstance(each, int) else pd.Timestamp(each) for each in column]
        return pd.Series(pd.to_datetime(moments, utc=True), dtype="datetime64[ms, UTC]")
    if kind == NUMBER:
        return pd.to_numeric(column).astype(kind)
    return column.astype(kind)
