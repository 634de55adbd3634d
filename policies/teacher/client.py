"""The teacher: answers from an OpenAI-compatible endpoint (GPT-4o, or any server that speaks it).

Asynchronous inside, an ordinary iterator outside: the caller commits what has arrived before the
next answers are taken, in its own thread.
"""

import asyncio
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

import httpx2
import openai

from policies import PolicyError
from policies.teacher.budget import Budget
from policies.teacher.completion import LONGEST_DETAIL, TeacherReply, read_completion, server_message
from policies.teacher.prices import Usage, cost_usd
from policies.teacher.request import TeacherRequest, TeacherSettings, request_tokens
from policies.teacher.request_pool import Asking

LOOPBACK_KEY = "loopback"


class Teacher:
    """An endpoint with its key. `embedded` is the one this project serves itself, without a key."""

    def __init__(self, settings: TeacherSettings, *, embedded: bool = False) -> None:
        self.settings = settings
        self.embedded = embedded
        variable = settings.api_key_env
        self._key = os.environ.get(variable, "") if variable and not embedded else LOOPBACK_KEY
        if not self._key:
            raise PolicyError(f"{variable} is not set; export your key, or set teacher.enabled = false")

    def client(self) -> openai.AsyncOpenAI:
        """A new client for answers; it belongs to the event loop that first uses it.

        It has no time-out of its own: the one of `Asking.attempt` is for the whole exchange.
        """
        settings = self.settings
        http_client = openai.DefaultAioHttpClient(
            trust_env=not self.embedded,
            timeout=None,
            limits=httpx2.Limits(max_connections=settings.concurrency),
        )
        return openai.AsyncOpenAI(
            base_url=settings.base_url,
            api_key=self._key,
            timeout=None,
            max_retries=0,
            http_client=http_client,
            **self._dated(),
        )

    def control_client(self, timeout_s: float) -> openai.OpenAI:
        """A new client for files and batches, with the library's own retries."""
        settings = self.settings
        return openai.OpenAI(
            base_url=settings.base_url,
            api_key=self._key,
            timeout=timeout_s,
            max_retries=settings.attempts - 1,
            **self._dated(),
        )

    def _dated(self) -> dict[str, Any]:
        """Azure's dated interface wants its version in the query and the key in a header of its own."""
        if self.settings.api_version is None:
            return {}
        return {
            "default_query": {"api-version": self.settings.api_version},
            "default_headers": {"api-key": self._key},
        }

    def most_usd(self, request: TeacherRequest, *, batch: bool = False) -> float:
        """The most that a request can cost: its prompt, and as many tokens as it may be answered with.

        0 where no price is known.
        """
        settings = self.settings
        usage = Usage(request_tokens(settings, request), 0, settings.max_tokens)
        return cost_usd(settings.price, usage, batch=batch) if settings.price else 0.0

    def read(self, body: Any, request_prompt_tokens: int, *, batch: bool = False) -> TeacherReply:
        """A completion as a reply, priced, and without the key should a server echo it. Raises Malformed."""
        reply = read_completion(body, request_prompt_tokens)
        price = self.settings.price
        cost = cost_usd(price, reply.usage, batch=batch) if price else None
        return replace(
            reply,
            cost_usd=cost,
            text=self.redact(reply.text),
            finish_reason=self.redact(reply.finish_reason)[:LONGEST_DETAIL],
            detail=self.redact(reply.detail)[:LONGEST_DETAIL],
        )

    def redact(self, text: str) -> str:
        """The text without the key; done before anything is cut off, so that no part of it stays."""
        return text.replace(self._key, "[key]") if self._key != LOOPBACK_KEY else text

    def reason(self, status: Any, body: Any) -> str:
        """An HTTP error in few words: its status and what the server says."""
        message = self.redact(server_message(body))[:LONGEST_DETAIL]
        return f"{status}: {message}" if message else str(status)

    def key_refused(self, status: int) -> PolicyError:
        """The error for 401 and 403, naming the variable."""
        return PolicyError(
            f"the teacher refused the key in {self.settings.api_key_env} ({status});"
            " export one that may use teacher.model, then run again"
        )

    def ask_all(
        self,
        requests: Iterable[TeacherRequest],
        stopping: Callable[[], bool] = lambda: False,
        budget: Budget | None = None,
    ) -> Iterator[list[tuple[TeacherRequest, TeacherReply]]]:
        """Replies as they come, in groups of what has arrived; commit each before taking the next.

        The iteration ends early once `stopping` says so or `budget` admits nothing more. What is
        in flight then, or at an error, is still waited for and handed out: it is paid for.
        Raises TeacherOutage when the endpoint is down, PolicyError for what a retry cannot mend.
        """
        # A loop of its own: the main thread's current one is left as it is, others may rely on it.
        with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
            asking = Asking(self, budget or Budget([]))
            try:
                yield from asking.run(runner, iter(requests), stopping)
            finally:
                runner.run(asking.close())
