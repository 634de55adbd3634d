"""Reads a chat completion from any server; every field is checked."""

import json
from dataclasses import dataclass
from typing import Any, Literal

from policies.teacher.prices import Usage, text_tokens

Status = Literal["answered", "empty", "refusal", "content_filter", "too_long", "rejected", "failed"]
"""The status of a request.

`answered`: text to be judged. `empty`, `refusal`, `content_filter`: the model gave no text, but the
request is paid. `too_long`: far more than was asked for; it is not read. `rejected`: the server refuses this
request (400, 413, 422). These six are final.
`failed`: no answer after every attempt; it may be asked again.
"""

MAX_DETAIL_CHARS = 300
"""Most characters that are kept of a server's message."""

MOST_TOKENS = 10**8
"""Most tokens of one request: a larger count is a server's mistake, and is not taken as usage."""

NO_TOKENS = Usage()


class MalformedCompletion(Exception):
    """Not a chat completion."""


@dataclass(frozen=True)
class TeacherReply:
    """The result of one request, with the tokens billed.

    `usage_reported` is false if the server gave no usage, so that the tokens are estimated.
    `detail` is the server's reason, shortened and without keys.
    """

    status: Status
    text: str = ""
    finish_reason: str = ""
    usage: Usage = NO_TOKENS
    usage_reported: bool = True
    cost_usd: float | None = 0.0
    attempts: int = 1
    detail: str = ""


def parse_completion(content: bytes) -> Any:
    """A response body as JSON; raises MalformedCompletion."""
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise MalformedCompletion("the answer is not JSON") from error


def read_completion(body: Any, prompt_tokens: int) -> TeacherReply:
    """The reply in a `chat.completion` object; `prompt_tokens` is booked if usage is missing.

    A completion without text is a separate status, not an error: it is paid, and asking again would cost
    again. Raises MalformedCompletion for anything that is not a completion.
    """
    if not isinstance(body, dict) or not isinstance(body.get("choices"), list):
        raise MalformedCompletion("the answer is not a chat completion")
    choice = body["choices"][0] if body["choices"] else {}
    message = choice.get("message") if isinstance(choice, dict) else None
    if body["choices"] and not isinstance(message, dict):
        raise MalformedCompletion("the answer's choice has no message")
    content, refusal = (message or {}).get("content"), (message or {}).get("refusal")
    text = _storable_text(content)
    finish_reason = _storable_text(choice.get("finish_reason")) or "unknown"
    usage = _usage(body.get("usage"))
    status, detail = _status(text, _storable_text(refusal), finish_reason, bool(body["choices"]))
    return TeacherReply(
        status=status,
        text=text,
        finish_reason=finish_reason,
        usage=usage or Usage(prompt_tokens, 0, text_tokens(text)),
        usage_reported=usage is not None,
        detail=detail,
    )


def _status(text: str, refusal: str, finish_reason: str, has_choice: bool) -> tuple[Status, str]:
    if finish_reason == "content_filter":
        return "content_filter", "the provider's filter withheld the answer"
    if refusal:
        return "refusal", refusal
    if not text.strip():
        return "empty", "no text" if has_choice else "no choices"
    return "answered", ""


def _storable_text(value: Any) -> str:
    """A text that can be stored: JSON may contain lone surrogates, which UTF-8 cannot encode."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else ""


def _usage(usage: Any) -> Usage | None:
    if not isinstance(usage, dict):
        return None
    details = usage.get("prompt_tokens_details")
    cached = _count(details.get("cached_tokens")) if isinstance(details, dict) else None
    prompt, completion = _count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens"))
    if prompt is None or completion is None:
        return None
    return Usage(prompt, cached or 0, completion)


def _count(value: Any) -> int | None:
    counts = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MOST_TOKENS
    return value if counts else None


def server_message(body: Any) -> str:
    """The reason in an OpenAI-style error object (`{"error": {"message": ...}}`); "" if there is none."""
    error = body.get("error") if isinstance(body, dict) else None
    message = error.get("message") if isinstance(error, dict) else error
    return " ".join(_storable_text(message).split())
