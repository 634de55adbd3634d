"""The teacher: answers from an OpenAI-compatible endpoint (GPT-4o, or any server that speaks its protocol).

Asynchronous inside, an ordinary iterator outside: the caller commits each group of replies, in its
own thread, before it takes the next.
"""

import asyncio
import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import httpx2
import openai

from policies.limited_answers import LimitedAsyncClient, LimitedClient, most_response_bytes
from policies.loopback import LOOPBACK_KEY
from policies.teacher.budget import Budget
from policies.teacher.completion import TeacherReply
from policies.teacher.errors import TeacherError
from policies.teacher.replies import ReplyReader
from policies.teacher.request import TeacherRequest, TeacherSettings
from policies.teacher.request_pool import RequestPool


class Teacher:
    """An endpoint with its key. `embedded` is the endpoint that this project serves itself, without a key."""

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

        The iteration ends early once `stopping` is true or `budget` is exhausted. Requests that are
        in flight then, or at an error, are still waited for and handed out: they are paid for. `say` is told for
        what and until when it waits, where the server asks for a long wait.
        Raises TeacherOutage when the endpoint is down, TeacherError for what a retry cannot mend.
        """
        # An event loop of its own: the main thread's current one is left as it is, others may rely on it.
        with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
            pool = RequestPool(self._async_client(), self.settings, self.replies, budget or Budget([]), say)
            try:
                yield from pool.run(runner, iter(requests), stopping)
            finally:
                runner.run(pool.close())

    def _async_client(self) -> openai.AsyncOpenAI:
        """A new client for answers; it belongs to the event loop that first uses it.

        It has neither time-out nor retries: `RequestPool` has both.
        """
        settings = self.settings
        http_client = LimitedAsyncClient(
            most_response_bytes(settings.max_tokens),
            trust_env=not self.embedded,
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
            http_client=LimitedClient(most_response_bytes(settings.max_tokens), follow_redirects=False),
            **self._azure_options(),
        )

    def _azure_options(self) -> dict[str, Any]:
        """Azure's dated interface wants its version in the query and the key in a header of its own."""
        if self.settings.api_version is None:
            return {}
        return {
            "default_query": {"api-version": self.settings.api_version},
            "default_headers": {"api-key": self._key},
        }
