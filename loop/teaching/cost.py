"""What the cold start will cost, estimated from a sample of the questions before anything is asked."""

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
from loop.teaching.templates import template
from policies.teacher.chat import is_loopback
from policies.teacher.prices import Price, Usage, cost_usd, image_tokens, scaled, text_tokens
from policies.teacher.request import request_hash
from store import Store
from store.questions import find_questions
from store.teacher_calls import call_status

LOOKED_AT = 200
"""Questions that the estimate is measured on."""

RATIONALE_TOKENS = 130
"""What a rationale of about 100 tokens comes to with its answer line."""

Asked = tuple[str, Sequence[tuple[int, int]]]
"""(prompt, sizes of its images in pixels)."""


@dataclass(frozen=True)
class Estimate:
    """`usd` is what is expected, `most_usd` what it cannot exceed; both None where no price is known."""

    requests: int
    prompt_tokens: int
    completion_tokens: int
    usd: float | None
    most_usd: float | None

    def __str__(self) -> str:
        tokens = f"{self.prompt_tokens:,} prompt and {self.completion_tokens:,} answer tokens"
        cost = "no price known" if self.usd is None else f"about ${self.usd:.2f}, at most ${self.most_usd:.2f}"
        return f"{self.requests:,} requests, about {tokens}: {cost}"


def estimate_from_source(config: Config) -> tuple[Estimate, str]:
    """The estimate before a run exists, and what it rests on: the source's first train questions."""
    wanted = config.cold_start.rationales
    path = config.questions.path
    if path is not None and not Path(path).exists():
        edge = config.teacher.longest_edge
        assumed = _prompt(config.teacher, config.questions.judge, "x" * 100, "x" * 10)
        return _estimate(
            config.teacher, [(assumed, [(edge, edge)])], wanted
        ), f"assuming one image of {edge}x{edge} each"
    train = (
        each for each in SOURCES[config.questions.source](config.questions) if each.split == "train" and each.answers
    )
    asked = [
        (_prompt(config.teacher, each.judge, each.text, each.answers[0]), [_size(image) for image in each.images])
        for each in islice(train, LOOKED_AT)
    ]
    return _estimate(config.teacher, asked, wanted), f"measured on {len(asked)} questions"


def confirm_cold_start(config: Config, store: Store, *, agreed: bool) -> None:
    """Raise InputError, naming `--yes`, if what the cold start still has to ask costs more than `confirm_usd`.

    Also where nobody knows what it costs: a model without a price that is asked beyond this machine.
    """
    teacher = config.teacher
    if agreed or not teacher.enabled or store.row("SELECT 1 FROM round WHERE number > 0 OR phase <> 'distil'"):
        return
    estimate = _estimate(teacher, _stored(teacher, store), _to_ask(config, store))
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


def _to_ask(config: Config, store: Store) -> int:
    """Requests of the cold start that have no answer under the settings as they are now."""
    from loop.teaching.tasks import rationale_tasks

    chosen = find_questions(store, "id IN (SELECT question FROM round_question WHERE round = 0)")
    if not chosen:
        available: int = store.value("SELECT count(*) FROM question WHERE split = 'train' AND answers <> '[]'")
        return min(config.cold_start.rationales, available)
    settings = teacher_settings(config.teacher, config.teacher.base_url)
    keys = {
        request_hash(settings, task.prompt, task.question.images) for task in rationale_tasks(config.teacher, chosen)
    }
    return sum(call_status(store, key) in (None, "failed") for key in keys)


def _stored(config: TeacherConfig, store: Store) -> list[Asked]:
    asked: list[Asked] = []
    for question in find_questions(store, "split = 'train' AND answers <> '[]' ORDER BY hash LIMIT ?", LOOKED_AT):
        sizes = [
            (row["width"], row["height"])
            for digest in question.images
            for row in store.rows("SELECT width, height FROM image WHERE sha256 = ?", digest)
        ]
        asked.append((_prompt(config, question.judge, question.text, question.answers[0]), sizes))
    return asked


def _prompt(config: TeacherConfig, judge: str, text: str, answer: str) -> str:
    return template("rationale", config.notes_of(judge)).fill(question=text, answer=answer)


def _size(image: bytes) -> tuple[int, int]:
    with Image.open(io.BytesIO(image)) as opened:
        return opened.size


def _estimate(config: TeacherConfig, asked: Sequence[Asked], requests: int) -> Estimate:
    """Scale what the looked-at questions come to up to `requests`."""
    known = config.price
    price = Price(0, 0, 0) if known is None else Price(**known.model_dump())
    prompts = sum(
        text_tokens(prompt) + sum(image_tokens(price, *scaled(*size, config.longest_edge)) for size in sizes)
        for prompt, sizes in asked
    )
    prompt_tokens = round(prompts / max(1, len(asked)) * requests)
    answer_tokens = requests * min(RATIONALE_TOKENS, config.max_tokens)
    batch = config.mode == "batch"
    usd = cost_usd(price, Usage(prompt_tokens, 0, answer_tokens), batch=batch)
    most = cost_usd(price, Usage(prompt_tokens, 0, requests * config.max_tokens), batch=batch)
    return Estimate(
        requests, prompt_tokens, answer_tokens, None if known is None else usd, None if known is None else most
    )
