"""The teacher: answers from an OpenAI-compatible endpoint (GPT-4o, or any server that speaks its protocol).

Requests are asynchronous, but the interface is an ordinary iterator: the caller commits each group of replies in
its own thread before it takes the next.
"""

import asyncio
import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import httpx2
import openai

from policies.limited_answers import LimitedAsyncClient, LimitedClient, most_response_bytes
from policies.loopback import LOOPBACK_KEY, is_loopback
from policies.teacher.budget import Budget
from policies.teacher.completion import TeacherReply
from policies.teacher.errors import TeacherError
from policies.teacher.replies import ReplyReader
from policies.teacher.request import TeacherRequest, TeacherSettings
from policies.teacher.request_pool import RequestPool


class Teacher:
    """An endpoint with its key. `embedded`: the project's own endpoint, without a key."""

    def __init__(self, settings: TeacherSettings, *, embedded: bool = False) -> None:
        self.settings = settings
        self.embedded = embedded
        variable = settings.api_key_env
        self._key = os.environ.get(variable, "") if variable and not embedded else LOOPBACK_KEY
        if not self._key:
            raise TeacherError(f"{variable} is not set; export your key, or set teacher.enabled = false")
        self.replies = ReplyReader(settings, self._key)

    def ask_all(
        self,
        requests: Iterable[TeacherRequest],
        stopping: Callable[[], bool] = lambda: False,
        budget: Budget | None = None,
        say: Callable[[str], object] = lambda line: None,
    ) -> Iterator[list[tuple[TeacherRequest, TeacherReply]]]:
        """Replies as they arrive, in groups; commit each group before taking the next.

        The iteration ends early once `stopping` is true or `budget` is exhausted. Requests in flight
        are then still awaited and returned, because they are paid; the same holds after an error. `say`
        receives the reason and end of a long wait that the server asks for.
        Raises TeacherOutage if the endpoint is down, TeacherError for errors that a retry cannot mend.
        """
        # A separate event loop: the main thread's current one is left unchanged, because others may rely on it.
        with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
            pool = RequestPool(self._async_client(), self.settings, self.replies, budget or Budget([]), say)
            try:
                yield from pool.run(runner, iter(requests), stopping)
            finally:
                runner.run(pool.close())

    def _async_client(self) -> openai.AsyncOpenAI:
        """A new client for answers; it belongs to the event loop that first uses it.

        It has neither time-out nor retries, because `RequestPool` has both.
        """
        settings = self.settings
        http_client = LimitedAsyncClient(
            most_response_bytes(settings.max_tokens),
            trust_env=not is_loopback(settings.base_url),  # no proxy has to do with what stays on this machine
            follow_redirects=False,
            timeout=None,
            limits=httpx2.Limits(max_connections=settings.concurrency),
        )
        return openai.AsyncOpenAI(
            base_url=settings.base_url,
            api_key=self._key,
            timeout=None,
            max_retries=0,
            http_client=http_client,
            **self._azure_options(),
        )

    def control_client(self, timeout_s: float) -> openai.OpenAI:
        """A new client for files and batches, with the library's own retries."""
        settings = self.settings
        return openai.OpenAI(
            base_url=settings.base_url,
            api_key=self._key,
            timeout=timeout_s,
            max_retries=settings.attempts - 1,
            http_client=LimitedClient(
                most_response_bytes(settings.max_tokens),
                trust_env=not is_loopback(settings.base_url),
                follow_redirects=False,
            ),
            **self._azure_options(),
        )

    def _azure_options(self) -> dict[str, Any]:
        """Azure's dated interface needs its version in the query and the key in another header."""
        if self.settings.api_version is None:
            return {}
        return {
            "default_query": {"api-version": self.settings.api_version},
            "default_headers": {"api-key": self._key},
        }
