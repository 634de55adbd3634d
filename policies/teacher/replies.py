"""Turns the server's answers into `TeacherReply`s: with their cost, shortened, and without the key."""

from dataclasses import replace
from typing import Any

from policies.limited_answers import TOKEN_BYTES
from policies.loopback import LOOPBACK_KEY
from policies.teacher.completion import MAX_DETAIL_CHARS, TeacherReply, read_completion, server_message
from policies.teacher.errors import TeacherError
from policies.teacher.prices import Usage, cost_usd
from policies.teacher.request import TeacherSettings

REJECTED_STATUSES = (400, 413, 422)
"""Statuses for a request that cannot be answered, while others may be."""

KEY_REFUSED_STATUSES = (401, 403)

OTHER_CHARS = 4096
"""Factor for servers that count tokens differently."""


class ReplyReader:
    """Reads the answers of one endpoint. It has the key only to remove it from every text."""

    def __init__(self, settings: TeacherSettings, key: str) -> None:
        self._settings = settings
        self._key = key

    def read(self, body: Any, request_prompt_tokens: int, *, batch: bool = False) -> TeacherReply:
        """The reply in a `chat.completion` object, with its cost.

        `request_prompt_tokens` is the estimate to book if the server reports no usage; `batch` halves the price.
        Raises MalformedCompletion.
        """
        reply = read_completion(body, request_prompt_tokens)
        if len(reply.text) > OTHER_CHARS + TOKEN_BYTES * self._settings.max_tokens:
            reply = replace(reply, status="too_long", text="", detail=f"{len(reply.text):,} characters")
        price = self._settings.price
        return replace(
            reply,
            cost_usd=cost_usd(price, reply.usage, batch=batch) if price else None,
            text=self.redact(reply.text),
            finish_reason=self.redact(reply.finish_reason)[:MAX_DETAIL_CHARS],
            detail=self.redact(reply.detail)[:MAX_DETAIL_CHARS],
        )

    def too_long(self, prompt_tokens: int) -> TeacherReply:
        """The reply to a request whose answer is longer than is read; booked with the longest length allowed."""
        usage, price = Usage(prompt_tokens, 0, self._settings.max_tokens), self._settings.price
        cost = cost_usd(price, usage) if price else None
        return TeacherReply("too_long", usage=usage, usage_reported=False, cost_usd=cost, detail="more than is read")

    def redact(self, text: str) -> str:
        """The text without the key. Redact before shortening, or a part of the key could stay."""
        return text.replace(self._key, "[key]") if self._key != LOOPBACK_KEY else text

    def describe_error(self, status: Any, body: Any) -> str:
        """An HTTP error in short: its status and the server's message."""
        message = self.redact(server_message(body))[:MAX_DETAIL_CHARS]
        return f"{status}: {message}" if message else str(status)

    def key_refused(self, status: int) -> TeacherError:
        """The error for 401 and 403; it names the key's variable."""
        return TeacherError(
            f"the teacher refused the key in {self._settings.api_key_env} ({status});"
            " export one that may use teacher.model, then run again"
        )
