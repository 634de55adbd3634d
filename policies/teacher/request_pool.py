"""The requests of one `Teacher.ask_all`: concurrency, what is in flight, and the circuit breaker."""

import asyncio
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

import httpx2
import openai

from policies.limited_answers import is_too_long
from policies.teacher.budget import Budget
from policies.teacher.completion import MalformedCompletion, TeacherReply, parse_completion
from policies.teacher.errors import TeacherError, TeacherOutage
from policies.teacher.image_parts import needs_no_conversion
from policies.teacher.rate_limit import LimitUsedUp, RateLimit, moment_after
from policies.teacher.replies import ReplyReader
from policies.teacher.request import TeacherRequest, TeacherSettings, max_cost_usd, request_body, request_tokens
from policies.teacher.retries import TransientError, read_error, retrying

MAX_REJECTED_AT_START = 20
"""Rejected requests before the first answer that mean wrong settings, not odd questions."""

MAX_FAILED_IN_A_ROW = 3
"""Failed requests in a row that open the circuit breaker: the endpoint is down."""

STOP_CHECK_S = 0.2
"""Seconds between two checks of `stopping` while no reply arrives."""


class _PoolClosed(Exception):
    """The pool closed before the request was sent."""


class RequestPool:
    """Sends requests, `settings.concurrency` at once; used for one iteration and then closed."""

    def __init__(
        self,
        client: openai.AsyncOpenAI,
        settings: TeacherSettings,
        replies: ReplyReader,
        budget: Budget,
        say: Callable[[str], object],
    ) -> None:
        self._client = client
        self._settings = settings
        self._replies = replies
        self._budget = budget
        self._rate_limit = RateLimit(settings.requests_per_minute, settings.tokens_per_minute, self._sleep, say=say)
        self._closing = asyncio.Event()
        self._failure: Exception | None = None
        self._last_fault = ""
        self._answered = self._rejected = self._failed = self._failed_in_a_row = 0
        self._in_flight = self._tokens_in_flight = 0
        self._completions = self._completion_tokens = 0

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    def run(
        self, runner: asyncio.Runner, waiting: Iterator[TeacherRequest], stopping: Callable[[], bool]
    ) -> Iterator[list[tuple[TeacherRequest, TeacherReply]]]:
        """Replies in groups as they arrive, until every request is answered or the pool closes.

        Raises the error that closed the pool (TeacherError, TeacherOutage, or an error of a request's images) after
        all requests in flight have finished.
        """
        running: dict[asyncio.Task[TeacherReply], tuple[TeacherRequest, float]] = {}
        postponed: TeacherRequest | None = None
        while True:
            if stopping():
                self._closing.set()
            while not self._closing.is_set() and len(running) < self._settings.concurrency:
                request = postponed or next(waiting, None)
                postponed = None
                if request is None:
                    break
                max_usd = max_cost_usd(self._settings, request_tokens(self._settings, request))
                if not self._budget.reserve(max_usd):
                    postponed = request
                    break
                task = runner.get_loop().create_task(self._ask(request))
                running[task] = (request, max_usd)
            if not running:
                break
            arrived = []
            for task in runner.run(_wait_for_any(running)):
                request, max_usd = running.pop(task)
                reply = self._take_reply(task)
                self._budget.settle(max_usd, (reply and reply.cost_usd) or 0.0, made=reply is not None)
                if reply is not None:
                    arrived.append((request, reply))
            if arrived:
                yield arrived
        down = self._failed >= MAX_FAILED_IN_A_ROW or self._last_fault.startswith("connection")
        if self._failure is None and self._failed and not self._answered and down:
            self._failure = self._outage()
        if self._failure is not None:
            raise self._failure

    def _take_reply(self, task: asyncio.Task[TeacherReply]) -> TeacherReply | None:
        """A finished request's reply; None if it was never sent, or if its error closes the pool."""
        try:
            reply = task.result()
        except _PoolClosed:
            return None
        except Exception as error:
            self._close_with(error)
            return None
        if reply.status == "failed":
            if reply.attempts < self._settings.attempts:
                # It was stopped, or the budget ended its retries; neither is a fault of the endpoint.
                return reply
            self._failed += 1
            self._failed_in_a_row += 1
            self._last_fault = reply.detail
            if self._failed_in_a_row >= MAX_FAILED_IN_A_ROW:
                self._close_with(self._outage())
            return reply
        self._failed_in_a_row = 0
        if reply.status == "rejected":
            self._rejected += 1
            if self._rejected >= MAX_REJECTED_AT_START and not self._answered:
                self._close_with(
                    TeacherError(
                        f"teacher at {self._settings.base_url} rejects every request ({reply.detail});"
                        " see teacher.model, teacher.max_tokens and teacher.longest_edge"
                    )
                )
        else:
            self._answered += 1
        return reply

    def _close_with(self, error: Exception) -> None:
        """Send nothing more; `run` raises the first such error after all requests in flight have finished."""
        self._failure = self._failure or error
        self._closing.set()

    def _outage(self) -> TeacherOutage:
        """The error for an endpoint that is down, with its last fault."""
        url, fault = self._settings.base_url, self._last_fault
        if fault.startswith("connection"):
            return TeacherOutage(
                f"teacher unreachable at {url}; start it, correct teacher.base_url, or set teacher.enabled = false"
            )
        if fault.startswith("429"):
            cure = "lower teacher.concurrency or teacher.requests_per_minute, then run again"
            return TeacherOutage(f"teacher at {url} goes on limiting the rate ({fault}); {cure}")
        if fault.startswith("malformed"):
            return TeacherOutage(
                f"teacher at {url} did not answer as an OpenAI-compatible server does ({fault}); see teacher.base_url"
            )
        return TeacherOutage(f"teacher at {url} is down ({fault}); run again later, or raise teacher.timeout_s")

    async def _ask(self, request: TeacherRequest) -> TeacherReply:
        """One request with its retries. Raises TeacherError for what ends everything, _PoolClosed if never sent."""
        tokens = request_tokens(self._settings, request)
        if all(needs_no_conversion(image, self._settings.longest_edge) for image in request.images):
            body = request_body(self._settings, request)
        else:
            body = await asyncio.to_thread(request_body, self._settings, request)
        attempts = 0
        try:
            async for attempt in retrying(self._settings, self._budget, self._sleep):
                with attempt:
                    expected = tokens + self._expected_completion_tokens()
                    await self._rate_limit.acquire(expected)
                    await self._sleep(0)
                    attempts += 1
                    reply = await self._send(body, tokens, expected)
        except TransientError as error:
            return TeacherReply("failed", detail=str(error), cost_usd=0.0, attempts=attempts)
        except LimitUsedUp as limit:
            raise TeacherOutage(
                f"teacher at {self._settings.base_url} takes no more {limit.what} for {limit.seconds:.0f} s, until"
                f" {moment_after(limit.seconds)}; run again then"
            ) from None
        except _PoolClosed:
            if not attempts:
                raise
            return TeacherReply("failed", detail="stopped before its next attempt", cost_usd=0.0, attempts=attempts)
        return replace(reply, attempts=attempts)

    async def _sleep(self, seconds: float) -> None:
        """Sleep; raises _PoolClosed as soon as the pool closes."""
        if seconds > 0:
            try:
                async with asyncio.timeout(seconds):
                    await self._closing.wait()
            except TimeoutError:
                return
        if self._closing.is_set():
            raise _PoolClosed

    def _expected_completion_tokens(self) -> int:
        """The mean length of the answers so far; before the first one, the longest allowed."""
        return round(self._completion_tokens / self._completions) if self._completions else self._settings.max_tokens

    async def _send(self, body: dict[str, Any], prompt_tokens: int, expected: int) -> TeacherReply:
        """Send once; `expected` counts the tokens of prompt and answer. Raises TransientError for a retry.

        The time-out covers the whole exchange, so an endless slow answer cannot block its connection.
        """
        used = 0
        self._in_flight += 1
        self._tokens_in_flight += expected
        try:
            async with asyncio.timeout(self._settings.timeout_s):
                response: httpx2.Response = await self._client.post(
                    "/chat/completions", cast_to=httpx2.Response, body=body
                )
            self._observe_limits(response, expected)
            if is_too_long(response):
                reply = self._replies.too_long(prompt_tokens)
            else:
                reply = self._replies.read(parse_completion(response.content), prompt_tokens)
            used = reply.usage.prompt + reply.usage.completion
            self._completion_tokens += reply.usage.completion
            self._completions += 1
            return reply
        except MalformedCompletion as error:
            raise TransientError(f"malformed: {error}") from error
        except TimeoutError as error:
            raise TransientError(f"timeout after {self._settings.timeout_s:g} s") from error
        except openai.APIConnectionError as error:
            raise TransientError(f"connection: {type(error.__cause__ or error).__name__}") from error
        except openai.APIStatusError as error:
            self._observe_limits(error.response, expected)
            try:
                return read_error(error, self._settings, self._replies)
            except TransientError as transient:
                self._rate_limit.pause(transient.after_s)
                raise
        finally:
            self._in_flight -= 1
            self._tokens_in_flight -= expected
            self._rate_limit.settle(expected, used)

    def _observe_limits(self, response: httpx2.Response, expected: int) -> None:
        """Take over the limits in the response's headers."""
        self._rate_limit.observe(response.headers, self._in_flight - 1, self._tokens_in_flight - expected)


async def _wait_for_any(running: Iterable[asyncio.Task[TeacherReply]]) -> set[asyncio.Task[TeacherReply]]:
    """The finished tasks; returns after `STOP_CHECK_S` seconds at the latest, perhaps with none."""
    done, _ = await asyncio.wait(running, timeout=STOP_CHECK_S, return_when=asyncio.FIRST_COMPLETED)
    return done
