"""A judge by its name: `numeric`, or with options `numeric(relative = 0.05)`.

The options between the brackets are TOML, as in a recipe. Every judge has: `correct_from`
(the score from which an answer is correct), `markers` (the order of `judges.extraction`) and those
of its rule. Verdicts record the whole text in one canonical form.
"""

import inspect
import json
import re
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache, partial
from typing import Any

from judges.errors import JudgeError, JudgeSpecError
from judges.extraction import DEFAULT_MARKERS, check_markers
from judges.rules import RULES, Rule

SPEC = re.compile(r"\s*(\w+)\s*(?:\((.*)\))?\s*", re.DOTALL)
NOT_OPTIONS = {"choices"}
"""Keyword arguments that the question supplies."""


@dataclass(frozen=True)
class Judge:
    """A rule with its options. `name` is the canonical spec, which verdicts are stored under."""

    name: str
    rule: Rule
    options: dict[str, Any] = field(compare=False)
    correct_from: float
    markers: tuple[str, ...]
    _score: Callable[..., float] = field(compare=False)

    @property
    def version(self) -> str:
        """The rule's version."""
        return self.rule.version

    def score(self, answer: str, accepted: Sequence[str], choices: Sequence[str] = ()) -> float:
        """The rule's score of an extracted answer in [0, 1]; raises JudgeError if it cannot give one."""
        if choices and "choices" in _parameters(self.rule.name):
            return self._score(answer, accepted, choices=choices)
        return self._score(answer, accepted)

    def reference_answer(self, accepted: Sequence[str], choices: Sequence[str] = ()) -> str | None:
        """The accepted answer that this judge scores highest; the first of several with the same score.

        None if it calls no accepted answer correct: a pattern is not an answer, and one of ten annotators' answers
        may score too little.
        """
        if self.rule.name == "llm":
            return accepted[0] if accepted else None
        scored: list[tuple[float, str]] = []
        for answer in dict.fromkeys(accepted):
            try:
                scored.append((self.score(answer, accepted, choices), answer))
            except JudgeError:
                continue
        best = max(scored, key=lambda each: each[0], default=(0.0, ""))
        return best[1] if best[0] >= self.correct_from else None

    def same(self, left: str, right: str, choices: Sequence[str] = ()) -> bool:
        """Whether two answers are equal in a vote: by the rule itself, each taken as the accepted one."""
        if self.rule.same is not None:
            return self.rule.same(left, right)
        try:
            return self.score(left, [right], choices) >= self.correct_from
        except JudgeError:
            return left == right

    def check_answers(self, answers: Sequence[str]) -> None:
        """Raises JudgeSpecError for accepted answers that the rule cannot work with."""
        if self.rule.check_answers is not None:
            try:
                self.rule.check_answers(answers, self.options)
            except ValueError as error:
                raise JudgeSpecError(f"judge {self.name!r}: {error}") from error


KINDS: dict[type, str] = {
    float: "a number, 0 or more",
    int: "a whole number",
    bool: "true or false",
    str: "a text",
    list: "a list of texts",
}
"""What an option may be, by the type of its default, as an error says it."""

MOST_CHARACTERS = 4000
"""Most characters of a judge's name with its options; a longer text is refused."""


@lru_cache(maxsize=1024)
def find_judge(spec: str) -> Judge:
    """The judge that a text names. Raises JudgeSpecError, which says what is wrong and which names are known."""
    if len(spec) > MOST_CHARACTERS:
        raise JudgeSpecError(f"judge {spec[:40]!r}... has {len(spec):,} characters, {MOST_CHARACTERS:,} at most")
    match = SPEC.fullmatch(spec)
    if match is None or match[1] not in RULES:
        if match is None and "(" in spec:
            raise JudgeSpecError(
                f"judge {spec[:60]!r}: write it as NAME, or as NAME(option = value) with both brackets"
            )
        name = match[1] if match else spec
        raise JudgeSpecError(f"judge {name[:60]!r} is unknown; known: {', '.join(sorted(RULES))}")
    rule = RULES[match[1]]
    given = _options(spec, match[2] or "")
    defaults: dict[str, Any] = {
        **{name: each.default for name, each in _parameters(rule.name).items() if name not in NOT_OPTIONS},
        "correct_from": rule.correct_from,
        "markers": list(DEFAULT_MARKERS),
    }
    for name, value in given.items():
        if name not in defaults:
            raise JudgeSpecError(f"judge {spec!r}: unknown option {name!r}; known: {', '.join(sorted(defaults))}")
        given[name] = _typed(spec, name, value, defaults[name])
    options: dict[str, Any] = {**defaults, **given}
    correct_from, markers = options.pop("correct_from"), tuple(options.pop("markers"))
    try:
        check_markers(markers)
        if not 0.0 < correct_from <= 1.0:
            raise ValueError("correct_from must be above 0, and 1 at most")
        if rule.check_options is not None:
            rule.check_options(options)
    except ValueError as error:
        raise JudgeSpecError(f"judge {spec!r}: {error}") from error
    different = {name: value for name, value in sorted(given.items()) if value != defaults[name]}
    score = partial(rule.score, **options) if options else rule.score
    return Judge(_canonical(rule.name, different), rule, options, correct_from, markers, score)


def _options(spec: str, text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(f"options = {{{text}}}")["options"]  # type: ignore[no-any-return]
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise JudgeSpecError(
            f"judge {spec[:60]!r}: write options as name = value, with commas between, strings in quotes ({error})"
        ) from error


def _typed(spec: str, name: str, value: Any, default: Any) -> Any:
    wanted = float if isinstance(default, float) else type(default)
    if wanted is float and type(value) is int:
        value = float(value)
    items: list[Any] = value if isinstance(value, list) else []
    fits = type(value) is wanted and all(isinstance(each, str) for each in items)
    if not fits or (wanted is float and not 0.0 <= value < float("inf")):
        kind = KINDS[wanted]
        raise JudgeSpecError(f"judge {spec!r}: option {name!r} must be {kind}, not {value!r}")
    return value


def _canonical(name: str, options: dict[str, Any]) -> str:
    # JSON's notation of numbers, booleans, lists and texts is valid TOML, except for the character DEL.
    written = [f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in options.items()]
    return f"{name}({','.join(written)})".replace("\x7f", "\\u007F") if written else name


@cache
def _parameters(name: str) -> dict[str, inspect.Parameter]:
    parameters = inspect.signature(RULES[name].score).parameters
    return {key: each for key, each in parameters.items() if each.kind is inspect.Parameter.KEYWORD_ONLY}
