"""The registry: every rule by its name, with the version that verdicts are stored under."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from judges.anls import anls
from judges.chartqa import chartqa
from judges.choice import choice
from judges.errors import JudgeError
from judges.exact import exact, fold
from judges.extraction import Found
from judges.list_ import list_
from judges.llm import llm
from judges.math import math, math_many
from judges.numeric import numeric
from judges.preference import check_preference, flag_sums, preference, read_preference
from judges.python import load_function, python
from judges.reasoning_gym import check_task, reasoning_gym
from judges.regex import check_pattern, regex
from judges.textvqa import textvqa
from judges.vqa import same_text, vqa

Score = Callable[..., float]
"""(extracted answer, accepted answers, **options) -> score in [0, 1]; may raise JudgeError."""


def _same_fold(left: str, right: str) -> bool:
    return fold(left) == fold(right)


def _several(answers: Sequence[str], _: dict[str, Any]) -> None:
    if len(answers) < 2:
        raise ValueError("scores agreement among annotators: give 'answers', one an annotator")


def _patterns(answers: Sequence[str], options: dict[str, Any]) -> None:
    for each in [] if options["pattern"] else answers:
        check_pattern(each)


@dataclass(frozen=True)
class Rule:
    """A matching rule. Its options are the keyword arguments of `score`.

    `correct_from` is the score from which an answer counts as correct; `as_written` keeps extraction
    from stripping decoration; `same` says whether two answers are equal in a vote, if `score` does not decide
    that; `score_many` scores a batch at once; `check_answers` and `check_options` raise ValueError for answers and
    options that the rule cannot use. `read` replaces the markers: (text, needs_marker) -> the answer's position and
    content; `flags` adds the rule's own flags: (text, answer) -> flags.
    """

    name: str
    version: str
    score: Score
    correct_from: float = 1.0
    as_written: bool = False
    same: Callable[[str, str], bool] | None = None
    score_many: Callable[..., list[float | JudgeError]] | None = None
    check_answers: Callable[[Sequence[str], dict[str, Any]], None] | None = None
    check_options: Callable[[dict[str, Any]], object] | None = None
    read: Callable[..., Found | None] | None = None
    flags: Callable[[str, str | None], tuple[str, ...]] | None = None


RULES: dict[str, Rule] = {
    rule.name: rule
    for rule in (
        Rule("exact", "1", exact),
        Rule("choice", "1", choice),
        Rule("numeric", "1", numeric),
        Rule("chartqa", "1", chartqa, as_written=True),
        Rule("anls", "1", anls, correct_from=0.5, as_written=True),
        Rule("vqa", "1", vqa, correct_from=0.5, as_written=True, same=same_text, check_answers=_several),
        Rule("textvqa", "1", textvqa, correct_from=0.5, as_written=True, same=same_text, check_answers=_several),
        Rule("list", "1", list_),
        Rule("math", "1", math, score_many=math_many),
        Rule(
            "regex",
            "1",
            regex,
            same=_same_fold,
            check_answers=_patterns,
            check_options=lambda options: check_pattern(options["pattern"]),
        ),
        Rule(
            "python",
            "1",
            python,
            same=_same_fold,
            check_options=lambda options: load_function(options["function"]),
        ),
        Rule("llm", "1", llm, same=_same_fold),
        Rule(
            "preference",
            "2",
            preference,
            as_written=True,
            same=str.__eq__,
            check_answers=lambda answers, _: check_preference(answers),
            read=read_preference,
            flags=flag_sums,
        ),
        Rule(
            "reasoning_gym",
            "1",
            reasoning_gym,
            as_written=True,
            same=_same_fold,
            check_options=lambda options: check_task(options["task"]),
        ),
    )
}
"""To add a rule: one file, one line here, one row in docs/judges.md."""
