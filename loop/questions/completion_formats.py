"""Reads rows of other trainers' logs of completions into one format.

| trainer | file | row |
| --- | --- | --- |
| TRL (`log_completions`) | `OUTPUT_DIR/completions/completions_*.parquet` | `step`, `prompt`, `completion`, rewards |
| verl (`trainer.rollout_data_dir`) | `STEP.jsonl` | `input`, `output`, `gts`, `score`, `step`, more numbers |
| verifiers (`--save-results`) | `results.jsonl` | `prompt`, `completion`, `answer`, `reward`, `metrics` |
"""

import base64
import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from loop.errors import InputError

ADVANTAGE = "advantage"
"""TRL's own sum over a group; it says nothing of one completion alone."""

FIRST_STEP = 1
"""Where a log names no step."""

ANSWER_COLUMNS = ("answer", "solution", "ground_truth")
"""Where TRL's users log the accepted answer, the first that is there."""


@dataclass(frozen=True)
class Completion:
    """One row. `rewards` has every number of the row by name; `missing_images` counts those that the log left out."""

    trainer: str
    step: int
    prompt: str
    text: str
    answers: tuple[str, ...]
    rewards: dict[str, float]
    finish_reason: str
    images: tuple[bytes, ...] = ()
    missing_images: int = 0


def read_completion(row: Any, where: str, answer: str | None) -> Completion:
    """Read a row of any trainer; `answer` names the column with the accepted answer. Raises InputError."""
    if not isinstance(row, dict):
        raise InputError(f"{where}: must be a JSON object")
    if answer is not None and answer not in row:
        raise InputError(f"{where}: has no column {answer!r}; it has {', '.join(row)}")
    for columns, read in FORMATS:
        if columns <= row.keys():
            return read(row, where, answer)
    raise InputError(
        f"{where}: no completion of TRL (step, prompt, completion), verl (input, output) or verifiers (prompt,"
        f" completion, reward); it has {', '.join(map(str, row)) or 'no column'}"
    )


def _of_trl(row: dict[str, Any], where: str, answer: str | None) -> Completion:
    answer = answer or next((name for name in ANSWER_COLUMNS if name in row), None)
    rewards = _numbers({name: value for name, value in row.items() if name != "step"})
    return _completion("TRL", row, where, "prompt", "completion", answer, rewards, "unknown")


def _of_verl(row: dict[str, Any], where: str, answer: str | None) -> Completion:
    rewards = _numbers({name: value for name, value in row.items() if name != "step"})
    return _completion("verl", row, where, "input", "output", answer or "gts", rewards, "unknown")


def _of_verifiers(row: dict[str, Any], where: str, answer: str | None) -> Completion:
    metrics = row.get("metrics")
    rewards = _numbers({**(metrics if isinstance(metrics, dict) else {}), "reward": row["reward"]})
    ended = "length" if row.get("is_truncated") else "stop"
    return _completion("verifiers", row, where, "prompt", "completion", answer or "answer", rewards, ended)


FORMATS: tuple[tuple[set[str], Callable[[dict[str, Any], str, str | None], Completion]], ...] = (
    ({"input", "output"}, _of_verl),
    ({"step", "prompt", "completion"}, _of_trl),
    ({"prompt", "completion", "reward"}, _of_verifiers),
)
"""The columns that tell a trainer's rows, and how they are read."""


def _completion(
    trainer: str,
    row: dict[str, Any],
    where: str,
    prompt: str,
    completion: str,
    answer: str | None,
    rewards: dict[str, float],
    finish_reason: str,
) -> Completion:
    step = row.get("step", FIRST_STEP)
    if not isinstance(step, int) or isinstance(step, bool) or step < 0:
        raise InputError(f"{where}: 'step' must be a whole number, 0 or more, not {step!r}")
    asked, written = _Messages(where, prompt), _Messages(where, completion)
    asked.read(row[prompt])
    written.read(row[completion])
    if not asked.text.strip():
        raise InputError(f"{where}: {prompt!r} holds no text")
    return Completion(
        trainer,
        step,
        asked.text,
        written.text,
        _answers(None if answer is None else row.get(answer)),
        rewards,
        finish_reason,
        tuple(asked.images),
        asked.missing,
    )


def _numbers(values: dict[str, Any]) -> dict[str, float]:
    """The numbers among some values; a reward function that does not apply gives None or NaN."""
    return {
        str(name): float(value)
        for name, value in values.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    }


def _answers(value: Any) -> tuple[str, ...]:
    values = value if isinstance(value, list) else [value]
    return tuple(str(each) for each in values if isinstance(each, str | int | float) and str(each).strip())


@dataclass
class _Messages:
    """A text, or messages as one text: a single message without its role, several each after its role."""

    where: str
    column: str
    text: str = ""
    images: list[bytes] = field(default_factory=list)
    missing: int = 0

    def read(self, value: Any) -> None:
        if isinstance(value, str):
            self.text = value
            return
        if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
            raise InputError(f"{self.where}: {self.column!r} must be a text or a list of messages")
        said = [(str(each.get("role", "")), self._content(each)) for each in value]
        self.text = said[0][1] if len(said) == 1 else "\n\n".join(f"{role}: {content}" for role, content in said)

    def _content(self, message: dict[str, Any]) -> str:
        content, calls = message.get("content"), message.get("tool_calls")
        parts = content if isinstance(content, list) else [content]
        texts = [text for part in parts if (text := self._part(part))]
        # Parquet writes the keys that another message has as null.
        return "\n".join([*texts, *([json.dumps(calls, ensure_ascii=False)] if calls else [])])

    def _part(self, part: Any) -> str | None:
        if part is None or isinstance(part, str):
            return part
        if not isinstance(part, dict):
            raise InputError(f"{self.where}: {self.column!r} holds a message whose content is neither text nor parts")
        if part.get("type") in ("image", "image_url"):
            self._image(part)
            return None
        text = part.get("text")
        return text if isinstance(text, str) else None

    def _image(self, part: dict[str, Any]) -> None:
        address = part.get("image_url")
        address = address.get("url") if isinstance(address, dict) else address
        head, _, data = address.partition(";base64,") if isinstance(address, str) else ("", "", "")
        if not head.startswith("data:"):
            self.missing += 1
            return
        try:
            self.images.append(base64.b64decode(data, validate=True))
        except ValueError as error:
            raise InputError(f"{self.where}: an image's data URL is not base64 ({error})") from error
