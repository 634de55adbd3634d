"""Scores a predictions file line by line, for `run_loop.py judge`."""

import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, NamedTuple, TextIO

from judges import Judge, JudgeError, JudgeSpecError, Output, Verdict, find_judge, give_verdicts
from judges.llm import judge_with
from judges.verdict import make_verdict, read
from loop.errors import InputError
from loop.evaluation.statistics import wilson_interval

BATCH = 1000
LLM_TOKENS, LLM_SECONDS = 1024, 120.0

Ask = Callable[[str], str]
"""prompt -> reply, of judge `llm`"""


class Row(NamedTuple):
    """A line of the file, and its part that is judged."""

    content: dict[str, Any]
    output: Output
    question: str


@dataclass
class Summary:
    """Counts of verdicts, and of agreements with a second judge."""

    outcomes: Counter[str] = field(default_factory=Counter)
    flags: Counter[str] = field(default_factory=Counter)
    flagged: int = 0
    score: float = 0.0
    skipped: int = 0
    agreements: Counter[tuple[bool, bool]] = field(default_factory=Counter)
    seconds: float = 0.0

    def add(self, verdict: Verdict) -> None:
        """Count one verdict."""
        self.outcomes[verdict.outcome] += 1
        self.flags.update(verdict.flags)
        self.flagged += bool(verdict.flags)
        self.score += verdict.score

    def compare(self, first: Verdict, second: Verdict) -> None:
        """Count one pair of verdicts of two judges, if both say right or wrong."""
        if {first.outcome, second.outcome} <= {"correct", "wrong"}:
            self.agreements[first.outcome == "correct", second.outcome == "correct"] += 1

    def as_dict(self) -> dict[str, Any]:
        """The figures, shares of all rows judged; intervals are 95% Wilson intervals."""
        rows = self.outcomes.total()
        low, high = wilson_interval(self.outcomes["correct"], rows)
        figures: dict[str, Any] = {
            "rows": rows,
            "skipped": self.skipped,
            "outcomes": dict(self.outcomes),
            "accuracy": self.outcomes["correct"] / rows if rows else None,
            "low": low,
            "high": high,
            "mean_score": self.score / rows if rows else None,
            "flagged": self.flagged / rows if rows else None,
            "flags": dict(self.flags),
            "seconds": round(self.seconds, 3),
        }
        if self.agreements:
            figures["agreement"] = self._agreement()
        return figures

    def _agreement(self) -> dict[str, Any]:
        """Share of equal verdicts and Cohen's kappa (1960): agreement beyond that of chance."""
        both, total = self.agreements, self.agreements.total()
        same = both[True, True] + both[False, False]
        low, high = wilson_interval(same, total)
        first, second = both[True, True] + both[True, False], both[True, True] + both[False, True]
        chance = (first * second + (total - first) * (total - second)) / total**2
        kappa = (same / total - chance) / (1 - chance) if chance < 1 else None
        return {"rows": total, "share": same / total, "low": low, "high": high, "kappa": kappa}


def judge_lines(
    lines: Iterable[bytes],
    out: TextIO,
    judge: Judge,
    *,
    against: Judge | None = None,
    ask: Ask | None = None,
    prediction_key: str = "prediction",
    answers_key: str | None = None,
    needs_marker: bool = False,
    skip_bad: bool = False,
    report_bad: Callable[[str], object] = lambda _: None,
    progress: Callable[[int], object] = lambda _: None,
) -> Summary:
    """Write each row with its `extracted`, `score`, `outcome` and `flags`, in batches, without holding the whole file.

    Raises InputError naming the line of an invalid row, unless `skip_bad`: then it
    is reported and left out. `against` is a second judge whose verdicts are compared with the first.
    """
    summary, started = Summary(), time.monotonic()

    def rows() -> Iterator[Row]:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                yield _row(line, f"line {number}", judge, against, prediction_key, answers_key, needs_marker)
            except InputError as error:
                if not skip_bad:
                    raise
                summary.skipped += 1
                report_bad(str(error))

    waiting = rows()
    while batch := list(islice(waiting, BATCH)):
        verdicts = _verdicts(judge, batch, ask)
        for row, verdict in zip(batch, verdicts, strict=True):
            summary.add(verdict)
            said = {"extracted": verdict.extracted, "score": verdict.score, "outcome": verdict.outcome}
            out.write(json.dumps({**row.content, **said, "flags": list(verdict.flags)}) + "\n")
        out.flush()
        progress(len(batch))
        if against is not None:
            for first, second in zip(verdicts, _verdicts(against, batch, ask), strict=True):
                summary.compare(first, second)
    summary.seconds = time.monotonic() - started
    return summary


def _verdicts(judge: Judge, rows: list[Row], ask: Ask | None) -> list[Verdict]:
    if judge.rule.name != "llm":
        return give_verdicts(judge, [row.output for row in rows])
    if ask is None:
        raise InputError("judge 'llm' needs --base-url and --model: where it is asked")
    verdicts = []
    for row in rows:
        extracted, flags, settled = read(judge, row.output)
        if settled is None:
            assert extracted is not None
            try:
                score: float | JudgeError = judge_with(ask, row.question, extracted, row.output.answers)
            except JudgeError as error:
                score = error
            settled = make_verdict(judge, extracted, flags, score)
        verdicts.append(settled)
    return verdicts


def _row(
    line: bytes,
    where: str,
    judge: Judge,
    against: Judge | None,
    prediction_key: str,
    answers_key: str | None,
    needs_marker: bool,
) -> Row:
    try:
        content = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: not JSON ({error})") from error
    if not isinstance(content, dict):
        raise InputError(f"{where}: must be a JSON object")
    prediction = content.get(prediction_key)
    if not isinstance(prediction, str):
        raise InputError(f"{where}: {prediction_key!r} must be a text")
    answers = _texts(content, _answers_key(content, answers_key, where), where)
    choices = _texts(content, "choices", where) if content.get("choices") is not None else []
    finish_reason = content.get("finish_reason", "stop")
    if not isinstance(finish_reason, str):
        raise InputError(f"{where}: 'finish_reason' must be a text")
    question = content.get("question", "")
    names = {each.rule.name for each in (judge, against) if each is not None}
    if "llm" in names and not (isinstance(question, str) and question.strip()):
        raise InputError(f"{where}: judge 'llm' needs 'question', the text of the question")
    if not answers and not names <= {"llm", "regex", "python"}:
        raise InputError(f"{where}: there is no accepted answer")
    try:
        for each in (judge, against):
            if each is not None:
                each.check_answers(answers)
    except JudgeSpecError as error:
        raise InputError(f"{where}: {error}") from error
    return Row(content, Output(prediction, answers, choices, finish_reason, needs_marker), question)


def _answers_key(content: dict[str, Any], answers_key: str | None, where: str) -> str:
    if answers_key is not None:
        if answers_key not in content:
            raise InputError(f"{where}: has no {answers_key!r}; see --answers-key")
        return answers_key
    present = [key for key in ("answer", "answers") if key in content]
    if len(present) != 1:
        raise InputError(f"{where}: needs 'answer' (one) or 'answers' (a list), and not both; see --answers-key")
    return present[0]


def _texts(content: dict[str, Any], key: str, where: str) -> list[str]:
    """One text or number, or a list of them, as texts."""
    value = content[key]
    items = value if isinstance(value, list) else [value]
    if not all(isinstance(item, str | int | float) and not isinstance(item, bool) for item in items):
        raise InputError(f"{where}: {key!r} must be a text, a number, or a list of them")
    return [str(item) for item in items]


def parse_judge(spec: str) -> Judge:
    """The judge of `--judge`; raises InputError."""
    try:
        return find_judge(spec)
    except JudgeSpecError as error:
        raise InputError(f"--judge: {error}") from error


def endpoint(base_url: str | None, model: str | None) -> Ask | None:
    """The function that asks judge `llm`; None if no endpoint is named."""
    if base_url is None or model is None:
        return None
    from policies.judge_endpoint import JudgeEndpoint

    return JudgeEndpoint(base_url, model, LLM_TOKENS, LLM_SECONDS).ask


def format_summary(judge: Judge, figures: dict[str, Any]) -> str:
    """The summary as a few lines for people."""
    rows = figures["rows"]
    if not rows:
        return f"no rows judged, {figures['skipped']} skipped"
    lines = [
        f"{judge.name} (version {judge.version}): {100 * figures['accuracy']:.2f}% correct"
        f" [{100 * figures['low']:.2f}, {100 * figures['high']:.2f}] of {rows} rows,"
        f" mean score {figures['mean_score']:.4f}",
        "outcomes: " + ", ".join(f"{name} {count}" for name, count in sorted(figures["outcomes"].items())),
    ]
    if figures["flags"]:
        flags = ", ".join(f"{name} {count}" for name, count in sorted(figures["flags"].items()))
        lines.append(f"flagged: {100 * figures['flagged']:.2f}% ({flags})")
    if figures["skipped"]:
        lines.append(f"skipped: {figures['skipped']} broken rows")
    if agreement := figures.get("agreement"):
        kappa = "-" if agreement["kappa"] is None else f"{agreement['kappa']:.3f}"
        lines.append(
            f"agreement: {100 * agreement['share']:.2f}% [{100 * agreement['low']:.2f}, {100 * agreement['high']:.2f}]"
            f" of {agreement['rows']} rows that both judges decided, Cohen's kappa {kappa}"
        )
    return "\n".join(lines)
