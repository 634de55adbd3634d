"""The cost of the cold start, estimated from a sample of the questions before any request."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from PIL import Image

from loop.config.schema import Config
from loop.config.teacher import TeacherConfig
from loop.errors import InputError
from loop.questions.registry import SOURCES
from loop.teaching.setup import teacher_settings
from loop.teaching.tasks import rationale_tasks
from loop.teaching.templates import template
from policies.loopback import is_loopback
from policies.teacher.prices import Price, Usage, cost_usd, image_tokens, scaled, text_tokens
from policies.teacher.request import request_hash
from store import Store
from store.questions import find_questions
from store.teacher.calls import call_status

MEASURED_QUESTIONS = 200
"""Most questions that the estimate is measured on."""

RATIONALE_TOKENS = 130
"""Tokens of a typical rationale with its answer line."""

SizedPrompt = tuple[str, Sequence[tuple[int, int]]]
"""(prompt, sizes of its images in pixels)."""


@dataclass(frozen=True)
class Estimate:
    """`usd` is the expected cost, `max_usd` its upper limit; both are None if no price is known."""

    requests: int
    prompt_tokens: int
    completion_tokens: int
    usd: float | None
    max_usd: float | None

    def __str__(self) -> str:
        tokens = f"{self.prompt_tokens:,} prompt and {self.completion_tokens:,} answer tokens"
        cost = "no price known" if self.usd is None else f"about ${self.usd:.2f}, at most ${self.max_usd:.2f}"
        return f"{self.requests:,} requests, about {tokens}: {cost}"


def estimate_from_source(config: Config) -> tuple[Estimate, str]:
    """The estimate before a run exists, measured on the source's first train questions, and a note that says so."""
    wanted = config.cold_start.rationales
    path = config.questions.path
    if path is not None and not Path(path).exists():
        edge = config.teacher.longest_edge
        assumed = _prompt(config.teacher, config.questions.judge, "x" * 100, "x" * 10)
        return _estimate(
            config.teacher, [(assumed, [(edge, edge)])], wanted
        ), f"assuming one image of {edge}x{edge} each"
    train = (
        question
        for question in SOURCES[config.questions.source](config.questions)
        if question.split == "train" and question.answers
    )
    prompts = [
        (
            _prompt(config.teacher, question.judge, question.text, question.answers[0]),
            [_image_size(image) for image in question.images],
        )
        for question in islice(train, MEASURED_QUESTIONS)
    ]
    return _estimate(config.teacher, prompts, wanted), f"measured on {len(prompts)} questions"


def confirm_cold_start(config: Config, store: Store, *, agreed: bool) -> None:
    """Raise InputError, naming `--yes`, if what the cold start still has to ask costs more than `confirm_usd`.

    Also if the cost is unknown: a model without a price at an endpoint that is not on this machine.
    """
    teacher = config.teacher
    if agreed or not teacher.enabled or store.row("SELECT 1 FROM round WHERE number > 0 OR phase <> 'distil'"):
        return
    estimate = _estimate(teacher, _stored_prompts(teacher, store), _count_unanswered(config, store))
    if estimate.usd is None:
        if estimate.requests and not is_loopback(teacher.base_url):
            raise InputError(
                f"the cold start would take {estimate} ({teacher.model} at {teacher.base_url}): add --yes to agree, or"
                f' its price as a table [teacher.prices."{teacher.model}"] (input, cached, output; 0 where it is free)'
            )
        return
    cost = min(estimate.usd, float("inf") if teacher.budget_usd is None else teacher.budget_usd)
    if cost > teacher.confirm_usd:
        raise InputError(
            f"the cold start would cost {estimate} ({teacher.model}); that is above teacher.confirm_usd ="
            f" {teacher.confirm_usd:g}: add --yes to agree, or set teacher.budget_usd or cold_start.rationales"
        )


def _count_unanswered(config: Config, store: Store) -> int:
    """The number of cold-start requests without an answer under the present settings."""
    chosen = find_questions(store, "id IN (SELECT question FROM round_question WHERE round = 0)")
    if not chosen:
        usable = "split = 'train' AND answers <> '[]' AND unusable IS NULL"
        available: int = store.value(f"SELECT count(*) FROM question WHERE {usable}")
        return min(config.cold_start.rationales, available)
    settings = teacher_settings(config.teacher, config.teacher.base_url)
    keys = {
        request_hash(settings, task.prompt, task.question.images) for task in rationale_tasks(config.teacher, chosen)
    }
    return sum(call_status(store, key) in (None, "failed") for key in keys)


def _stored_prompts(config: TeacherConfig, store: Store) -> list[SizedPrompt]:
    prompts: list[SizedPrompt] = []
    for question in find_questions(
        store, "split = 'train' AND answers <> '[]' ORDER BY hash LIMIT ?", MEASURED_QUESTIONS
    ):
        sizes = [
            (row["width"], row["height"])
            for digest in question.images
            for row in store.rows("SELECT width, height FROM image WHERE sha256 = ?", digest)
        ]
        prompts.append((_prompt(config, question.judge, question.text, question.answers[0]), sizes))
    return prompts


def _prompt(config: TeacherConfig, judge: str, text: str, answer: str) -> str:
    return template("rationale", config.notes_of(judge), judge=judge).fill(question=text, answer=answer)


def _image_size(image: bytes) -> tuple[int, int]:
    with Image.open(io.BytesIO(image)) as opened:
        return opened.size


def _estimate(config: TeacherConfig, measured: Sequence[SizedPrompt], requests: int) -> Estimate:
    """The estimate: mean cost of the prompts times `requests`."""
    known = config.price
    price = Price(0, 0, 0) if known is None else Price(**known.model_dump())
    prompts = sum(
        text_tokens(prompt) + sum(image_tokens(price, *scaled(*size, config.longest_edge)) for size in sizes)
        for prompt, sizes in measured
    )
    prompt_tokens = round(prompts / max(1, len(measured)) * requests)
    answer_tokens = requests * min(RATIONALE_TOKENS, config.max_tokens)
    batch = config.mode == "batch"
    usd = cost_usd(price, Usage(prompt_tokens, 0, answer_tokens), batch=batch)
    max_usd = cost_usd(price, Usage(prompt_tokens, 0, requests * config.max_tokens), batch=batch)
    return Estimate(
        requests, prompt_tokens, answer_tokens, None if known is None else usd, None if known is None else max_usd
    )
