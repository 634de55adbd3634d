"""Shows the input of a run's model: lengths by split and style, answers by kind, and some prompts."""

import json
import random
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from loop.config.schema import Config
from loop.questions.limits import Limits, longest_sequence
from loop.questions.prompt_view import Example, PromptView, Sizes, Spread, spread
from loop.questions.splits import SPLITS
from loop.reporting import Reporter
from policies.encoding import Encoder
from store import Store

COMMON = 5
"""Answers of a kind that are named."""


@dataclass(frozen=True)
class Lengths:
    """Tokens of the questions of one split in one style. `whole` is prompt, images and the longest answer allowed.

    `too_long` counts the questions whose `whole` is more than the model or engine.max_model_len takes.
    """

    split: str
    style: str
    questions: int
    prompt: Spread
    images: Spread
    answer: Spread
    max_tokens: int
    whole: Spread
    too_long: int


@dataclass(frozen=True)
class Answers:
    """Questions of one kind in one split, and the accepted answers that are most common among them."""

    split: str
    kind: str | None
    judge: str
    questions: int
    different: int
    common: Sequence[tuple[str, int]]


@dataclass(frozen=True)
class Inspection:
    """All that is shown. `room` is the most tokens of prompt and answer together; None: without a known limit."""

    room: int | None
    lengths: Sequence[Lengths]
    answers: Sequence[Answers]
    examples: Sequence[Example]
    unusable: int

    def as_json(self) -> dict[str, Any]:
        """The inspection as dictionaries and lists."""
        return asdict(self)


@dataclass(frozen=True)
class _Asked:
    """A stored question with the sizes of its images."""

    id: int
    external_id: str | None
    text: str
    answers: list[str]
    choices: list[str]
    judge: str
    kind: str | None
    split: str
    images: list[str]
    sizes: Sizes


def inspect_questions(store: Store, config: Config, encoder: Encoder, examples: int, reporter: Reporter) -> Inspection:
    """Measure every question of a store, and choose `examples` of each split by the run's seed."""
    view, limits = PromptView(config, encoder), Limits(config, encoder)
    room = longest_sequence(config, encoder)
    counts: dict[tuple[str, str], list[tuple[int, int, int]]] = defaultdict(list)
    answers: dict[tuple[str, str | None, str], Counter[str]] = defaultdict(Counter)
    questions: Counter[tuple[str, str | None, str]] = Counter()
    with reporter.bar("counting tokens", store.value("SELECT count(*) FROM question"), "question") as bar:
        for asked in _questions(store):
            tokens = view.image_tokens(asked.sizes)
            answer = view.answer_tokens(asked.answers)
            for style in limits.styles(asked.split):
                prompt = view.prompt_tokens(asked.text, len(asked.sizes), style)
                counts[asked.split, style].append((prompt, tokens, answer))
            key = (asked.split, asked.kind, asked.judge)
            questions[key] += 1
            answers[key].update(set(asked.answers))
            bar.update()
    return Inspection(
        room,
        [_lengths(config, room, split, style, found) for (split, style), found in counts.items()],
        [_answers(key, questions[key], answers[key]) for key in sorted(questions, key=str)],
        list(_examples(store, config, view, limits, examples)),
        store.value("SELECT count(*) FROM question WHERE unusable IS NOT NULL"),
    )


def _lengths(
    config: Config, room: int | None, split: str, style: str, found: Sequence[tuple[int, int, int]]
) -> Lengths:
    most = (config.sampling if split == "train" else config.evaluation).max_tokens
    whole = [prompt + images + most for prompt, images, _ in found]
    prompts, images, answers = (spread(column) for column in zip(*found, strict=True))
    too_long = 0 if room is None else sum(each > room for each in whole)
    return Lengths(split, style, len(found), prompts, images, answers, most, spread(whole), too_long)


def _answers(key: tuple[str, str | None, str], questions: int, found: Counter[str]) -> Answers:
    split, kind, judge = key
    return Answers(split, kind, judge, questions, len(found), found.most_common(COMMON))


def _examples(store: Store, config: Config, view: PromptView, limits: Limits, count: int) -> Iterator[Example]:
    rng = random.Random(config.run.seed)
    for split in SPLITS:
        ids = [row["id"] for row in store.rows("SELECT id FROM question WHERE split = ? ORDER BY id", split)]
        chosen = sorted(rng.sample(ids, min(count, len(ids))))
        for asked in _questions(store, "WHERE question.id IN (SELECT value FROM json_each(?))", json.dumps(chosen)):
            yield view.example(
                where=f"question {asked.id}" + (f" ({asked.external_id})" if asked.external_id else ""),
                split=split,
                kind=asked.kind,
                text=asked.text,
                answers=asked.answers,
                choices=asked.choices,
                judge=asked.judge,
                sizes=asked.sizes,
                images=asked.images,
                style=limits.styles(split)[0],
            )


def _questions(store: Store, condition: str = "", *parameters: object) -> Iterator[_Asked]:
    sizes = (
        "(SELECT json_group_array(json_array(sha256, width, height)) FROM (SELECT sha256, width, height"
        " FROM question_image JOIN image ON image.sha256 = question_image.image"
        " WHERE question_image.question = question.id ORDER BY position))"
    )
    for row in store.stream(
        f"SELECT id, external_id, text, answers, choices, judge, kind, split, {sizes} FROM question {condition}"
        " ORDER BY id",
        *parameters,
    ):
        found = json.loads(row[8])
        yield _Asked(
            row[0],
            row[1],
            row[2],
            json.loads(row[3]),
            json.loads(row[4]),
            row[5],
            row[6],
            row[7],
            [digest for digest, _, _ in found],
            tuple((width, height) for _, width, height in found),
        )
