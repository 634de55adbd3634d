"""One rule per published benchmark: it scores an unchanged output against a row of the set."""

import re
import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from judges.anls import anls
from judges.chartqa import relaxed
from judges.errors import JudgeError
from judges.extraction import extract_answer
from judges.math import math
from judges.published import math_vision, math_vista
from judges.published.option_letter import option_letter
from judges.textvqa import textvqa

VERSION = "lmms-eval 0.7.3"

Row = Mapping[str, Any]
"""A row of the set, by the names of its columns."""

LETTERS = string.ascii_uppercase
NO_PUNCTUATION = str.maketrans("", "", string.punctuation)
LEADING_LETTER = re.compile(r"\s*([A-Z])\.")
GSM8K_STRICT = re.compile(r"The answer is (\-?[0-9\.\,]+).")
GSM8K_LAST = re.compile(r"(-?[$0-9.,]{2,})|(-?[0-9]+)")
GSM8K_IGNORED = tuple(map(re.compile, (",", r"\$", r"(?s).*#### ", r"\.$")))
MATH_ANSWER = re.compile(r"(?i)Answer\s*:\s*(.*)", re.DOTALL)
INVALID = "[invalid]"


@dataclass(frozen=True)
class Scored:
    """An output after lmms-eval's filter, its score in [0, 1], and every metric by lmms-eval's name.

    `flags` says where a rule stands in for the model that lmms-eval asks.
    """

    filtered: str
    score: float
    metrics: dict[str, float]
    flags: tuple[str, ...] = field(default=())


def score_output(benchmark: str, row: Row, output: str) -> Scored:
    """Score one output of a benchmark (a name of `loop.config.known_datasets`); KeyError for an unknown one."""
    return RULES[benchmark](row, output)


def read_and_score(benchmark: str, row: Row, output: str) -> Scored | None:
    """Score the answer after the output's last marker, for outputs with reasoning; None without an answer.

    `filtered` is what was scored: lmms-eval gives the same figure for it.
    """
    answer = extract_answer(output, needs_marker=True)
    if answer is None:
        return None
    # MATH's and GSM8K's rules read the answer out of a sentence or a box.
    form = {"gsm8k": "The answer is {}.", "math": "\\boxed{{{}}}", "mathvision": "\\boxed{{{}}}"}.get(benchmark, "{}")
    text = form.format(answer)
    return replace(score_output(benchmark, row, text), filtered=text)


def _letter(index: Any) -> str:
    return LETTERS[int(index)]


def _ai2d(row: Row, output: str) -> Scored:
    found = LEADING_LETTER.match(output)
    filtered = found[1] if found else output
    same = _bare(filtered.strip()) == _bare(_letter(row["answer"]))
    return _one(filtered, "exact_match", same)


def _bare(text: str) -> str:
    return text.lower().translate(NO_PUNCTUATION)


def _llava_letter(target: str, output: str) -> Scored:
    """The letter alone in any case, or a capital letter with a full stop first (ScienceQA, as LLaVA reads it)."""
    answer = output.strip()
    right = answer.lower() == target or (
        len(answer) > 1 and answer[0].isupper() and answer[1] == "." and answer[0].lower() == target
    )
    return _one(output, "exact_match", right)


def _scienceqa(row: Row, output: str) -> Scored:
    return _llava_letter(_letter(row["answer"]).lower(), output)


def _a_okvqa(row: Row, output: str) -> Scored:
    return _llava_letter(_letter(row["correct_choice_idx"]).lower(), output)


def _chartqa(row: Row, output: str) -> Scored:
    score = float(relaxed(output.strip(), row["answer"]))
    split = "relaxed_human_split" if row["type"] == "human_test" else "relaxed_augmented_split"
    return Scored(output, score, {"relaxed_overall": score, split: score})


def _anls(row: Row, output: str) -> Scored:
    score = anls(output.strip(), row["answers"])
    return Scored(output, score, {"anls": score})


def _textvqa(row: Row, output: str) -> Scored:
    score = textvqa(output.strip(), row["answers"] or [])
    return Scored(output, score, {"exact_match": score})


def _mmstar(row: Row, output: str) -> Scored:
    right = option_letter(output, "ABCD") == row["answer"].strip().upper()
    return _one(output, "average", right)


def _mathvision(row: Row, output: str) -> Scored:
    right = math_vision.math_vision(output, str(row["answer"]), row["options"])
    return _one(output, "mathvision_standard_eval", right)


def _mathvista(row: Row, output: str) -> Scored:
    kind, form, choices = row["question_type"], row["answer_type"], row["choices"] or []
    precision = row.get("precision", 0)
    found, read = math_vista.read_answer(output.strip(), kind, form, choices)
    answer = str(row["answer"]).strip()

    def right(places: Any) -> float:
        given = math_vista.normalised(found, kind, form, choices, places)
        return float(str(given).strip() == answer)

    whole = int(precision) if isinstance(precision, float) and precision.is_integer() else precision
    metrics = {"llm_as_judge_eval": right(precision), "rounded_to_precision": right(whole)}
    return Scored(output, metrics["llm_as_judge_eval"], metrics, ("read_by_rule",) if read else ())


def _gsm8k(row: Row, output: str) -> Scored:
    strict = GSM8K_STRICT.findall(output)
    last = GSM8K_LAST.findall(output)
    flexible = next(each for each in last[-1] if each).strip() if last else INVALID
    target = _gsm8k_bare(row["answer"])
    scores = {
        "exact_match,strict-match": float(_gsm8k_bare(strict[0].strip() if strict else INVALID) == target),
        "exact_match,flexible-extract": float(_gsm8k_bare(flexible) == target),
    }
    return Scored(flexible, scores["exact_match,flexible-extract"], scores)


def _gsm8k_bare(text: str) -> str:
    for ignored in GSM8K_IGNORED:
        text = ignored.sub("", text)
    return text.lower()


def _math(row: Row, output: str) -> Scored:
    target = str(row["answer"])
    target = str(int(target)) if target.isdigit() else target
    output = output.strip()
    answer = _boxed(output)
    if answer is None:
        marked = MATH_ANSWER.findall(output)
        answer = marked[-1] if marked else output
    if answer.isdigit() and target.isdigit():
        return _one(output, "exact_match", int(answer) == int(target))
    try:
        right = bool(math(answer, [target]))
    except JudgeError as error:
        return Scored(output, 0.0, {"exact_match": 0.0}, ("judged_by_math_verify", error.reason))
    return Scored(output, float(right), {"exact_match": float(right)}, ("judged_by_math_verify",))


def _boxed(text: str) -> str | None:
    r"""The content of the last `\boxed{...}`, or the text after the last `\boxed ` up to a dollar; None without any."""
    if "\\boxed " in text:
        return text.split("\\boxed ")[-1].split("$")[0]
    at = max(text.rfind("\\boxed"), -1)
    at = text.rfind("\\fbox") if at < 0 else at
    depth = 0
    for place in range(at, len(text)) if at >= 0 else ():
        depth += {"{": 1, "}": -1}.get(text[place], 0)
        if text[place] == "}" and depth == 0:
            return text[text.index("{", at) + 1 : place]
    return None


def _one(filtered: str, metric: str, right: bool) -> Scored:
    return Scored(filtered, float(right), {metric: float(right)})


RULES: dict[str, Callable[[Row, str], Scored]] = {
    "a_okvqa": _a_okvqa,
    "ai2d": _ai2d,
    "chartqa": _chartqa,
    "docvqa": _anls,
    "gsm8k": _gsm8k,
    "infovqa": _anls,
    "math": _math,
    "mathvision": _mathvision,
    "mathvista": _mathvista,
    "mmstar": _mmstar,
    "scienceqa": _scienceqa,
    "scienceqa_img": _scienceqa,
    "textvqa": _textvqa,
}


def aggregate(benchmark: str, rows: Sequence[Row], metrics: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Each metric over all rows, as lmms-eval aggregates it; MMStar's is the mean over its finer categories' means."""
    if benchmark == "mmstar":
        return _mmstar_figures(rows, [each["average"] for each in metrics])
    names = dict.fromkeys(name for each in metrics for name in each)
    found = {name: [each[name] for each in metrics if name in each] for name in names}
    means = {name: sum(values) / len(values) for name, values in found.items()}
    # lmms-eval gives these two as a percentage.
    percent = benchmark in ("mathvision", "mathvista")
    return {name: round(100 * mean, 2) if percent else mean for name, mean in means.items()}


def _mmstar_figures(rows: Sequence[Row], scores: Sequence[float]) -> dict[str, float]:
    figures = {}
    for name in ("average", *dict.fromkeys(row["category"] for row in rows)):
        finer: dict[str, list[float]] = {}
        for row, score in zip(rows, scores, strict=True):
            if name in ("average", row["category"]):
                finer.setdefault(row["l2_category"], []).append(score)
        figures[name] = sum(sum(each) / len(each) for each in finer.values()) / len(finer)
    return figures
