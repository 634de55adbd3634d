"""A request to the teacher: its settings, identity, size, highest cost and body."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from policies.teacher.image_parts import ImageFile, data_url
from policies.teacher.prices import Price, Usage, cost_usd, image_tokens, scaled, text_tokens


@dataclass(frozen=True)
class TeacherSettings:
    """Endpoint and settings of the teacher. The key comes from the environment only.

    Names ending in `_s` are seconds, `longest_edge` is pixels; None means no limit, or no known price.
    """

    base_url: str
    model: str
    temperature: float = 0.7
    max_tokens: int = 300
    concurrency: int = 16
    attempts: int = 8
    backoff_s: float = 1.0
    timeout_s: float = 60.0
    longest_edge: int = 1024
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    api_key_env: str = "OPENAI_API_KEY"
    api_version: str | None = None
    price: Price | None = None


@dataclass(frozen=True)
class TeacherRequest:
    """One question to the teacher: the whole prompt and its images. `key` is its `request_hash`."""

    key: str
    prompt: str
    images: tuple[ImageFile, ...] = ()


def request_hash(settings: TeacherSettings, prompt: str, images: Sequence[str]) -> str:
    """The sha256 of everything that determines the answer: model, parameters, prompt, and the images' hashes.

    A request whose hash was answered before is never paid again.
    """
    identity = [
        settings.model,
        settings.temperature,
        settings.max_tokens,
        settings.longest_edge if images else None,
        prompt,
        list(images),
    ]
    return hashlib.sha256(json.dumps(identity).encode()).hexdigest()


def request_tokens(settings: TeacherSettings, request: TeacherRequest) -> int:
    """An estimate of the prompt's tokens, images included."""
    price = settings.price or Price(0, 0, 0)
    sizes = (scaled(image.width, image.height, settings.longest_edge) for image in request.images)
    return text_tokens(request.prompt) + sum(image_tokens(price, *size) for size in sizes)


def max_cost_usd(settings: TeacherSettings, prompt_tokens: int, *, batch: bool = False) -> float:
    """The highest cost of a request in dollars: its prompt, and the longest answer allowed. 0 without a known price."""
    usage = Usage(prompt_tokens, 0, settings.max_tokens)
    return cost_usd(settings.price, usage, batch=batch) if settings.price else 0.0


def request_body(settings: TeacherSettings, request: TeacherRequest) -> dict[str, Any]:
    """The body of `POST /chat/completions`, images as data URLs before the text."""
    content: list[dict[str, Any]] = [
        {"type": "image_url", "image_url": {"url": data_url(image, settings.longest_edge)}} for image in request.images
    ]
    content.append({"type": "text", "text": request.prompt})
    return {
        "model": settings.model,
        "messages": [{"role": "user", "content": content}],
        "temperature": settings.temperature,
        "max_tokens": settings.max_tokens,
    }
