"""One asking of the teacher: what is in flight, retries, the circuit breaker, and what an error means."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import httpx2
import openai
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_random_exponential

from policies import PolicyError
from policies.teacher.budget import Budget
from policies.teacher.completion import Malformed, TeacherReply, parse_completion
from policies.teacher.images import sent_as_it_is
from policies.teacher.rate_limit import RateLimit, retry_after_s
from policies.teacher.request import TeacherRequest, request_body, request_tokens

if TYPE_CHECKING:
    from policies.teacher.client import Teacher

REJECTED = (400, 413, 422)
"""Statuses that say this one request cannot be answered; the others may be."""

KEY_REFUSED = (401, 403)
PASSING = (408, 409, 425, 429)
"""Statuses that may pass, beside those from 500 on."""

REJECTED_AT_START = 20
"""So many rejections before the first answer are a wrong setting, not odd questions."""

FAILED_IN_A_ROW = 3
"""So many requests given up with no answer between them open the circuit breaker: the endpoint is down."""

LONGEST_PAUSE_S = 900.0
"""A longer `Retry-After` ends the phase: a daily quota is better waited for outside."""

LONGEST_BACKOFF_S = 60.0
TICK_S = 0.2
"""How often a quiet wait looks whether the user wants to stop."""


class TeacherOutage(PolicyError):
    """The endpoint does not answer now; what was asked so far is kept, the rest can be asked later."""


class _Passing(Exception):
    """A fault that may pass; `after_s` is how long the server asks to wait."""

    def __init__(self, reason: str, after_s: float = 0.0) -> None:
        super().__init__(reason)
        self.after_s = after_s


class _Abandoned(Exception):
    """The request was waiting to be sent (again) when the asking ended: it is not made."""


class Asking:
    """One `ask_all`: its client, its rate limit, and what is in flight."""

    def __init__(self, teacher: Teacher, budget: Budget) -> None:
        settings = teacher.settings
        self.teacher = teacher
        self.settings = settings
        self.budget = budget
        self.client = teacher.client()
        self.limit = RateLimit(settings.requests_per_minute, settings.tokens_per_minute, self.sleep)
        self.closing = asyncio.Event()
        self.failure: Exception | None = None
        self.last_fault = ""
        self.answered = self.rejected = self.failed = self.failed_in_a_row = 0
        self.in_flight = self.tokens_in_flight = 0
        self.answer_tokens = self.answers = 0

    async def close(self) -> None:
        """Close the connections."""
        await self.client.close()

    async def sleep(self, seconds: float) -> None:
        """Sleep, but no longer than the asking lasts; raises _Abandoned then."""
        if seconds > 0:
            try:
                async with asyncio.timeout(seconds):
                    await self.closing.wait()
            except TimeoutError:
                return
        if self.closing.is_set():
            raise _Abandoned

    def run(
        self, runner: asyncio.Runner, waiting: Iterator[TeacherRequest], stopping: Callable[[], bool]
    ) -> Iterator[list[tuple[TeacherRequest, TeacherReply]]]:
        """Keep `concurrency` requests going and hand out what has arrived, until nothing is left."""
        running: dict[asyncio.Task[TeacherReply], tuple[TeacherRequest, float]] = {}
        held_back: TeacherRequest | None = None
        while True:
            if stopping():
                self.closing.set()
            while not self.closing.is_set() and len(running) < self.settings.concurrency:
                request = held_back or next(waiting, None)
                held_back = None
                if request is None:
                    break
                most = self.teacher.most_usd(request)
                if not self.budget.admit(most):
                    held_back = request
                    break
                task = runner.get_loop().create_task(self.ask(request))
                running[task] = (request, most)
            if not running:
                break
            arrived = []
            for task in runner.run(_some(running)):
                request, most = running.pop(task)
                reply = self.outcome(task)
                self.budget.settle(most, (reply and reply.cost_usd) or 0.0, made=reply is not None)
                if reply is not None:
                    arrived.append((request, reply))
            if arrived:
                yield arrived
        down = self.failed >= FAILED_IN_A_ROW or self.last_fault.startswith("connection")
        if self.failure is None and self.failed and not self.answered and down:
            self.failure = self.outage()
        if self.failure is not None:
            raise self.failure

    def outcome(self, task: asyncio.Task[TeacherReply]) -> TeacherReply | None:
        """A finished request's reply; None if it was abandoned or its error ends the asking."""
        try:
            reply = task.result()
        except _Abandoned:
            return None
        except Exception as error:
            self.stop(error)
            return None
        if reply.status == "failed":
            if reply.attempts < self.settings.attempts:  # stopped, or out of requests: it says nothing of the endpoint
                return reply
            self.failed += 1
            self.failed_in_a_row += 1
            self.last_fault = reply.detail
            if self.failed_in_a_row >= FAILED_IN_A_ROW:
                self.stop(self.outage())
            return reply
        self.failed_in_a_row = 0
        if reply.status == "rejected":
            self.rejected += 1
            if self.rejected >= REJECTED_AT_START and not self.answered:
                self.stop(
                    PolicyError(
                        f"teacher at {self.settings.base_url} rejects every request ({reply.detail});"
                        " see teacher.model, teacher.max_tokens and teacher.longest_edge"
                    )
                )
        else:
            self.answered += 1
        return reply

    def stop(self, error: Exception) -> None:
        """End the asking with this error once what is in flight has come back."""
        self.failure = self.failure or error
        self.closing.set()

    def outage(self) -> TeacherOutage:
        """The error for an endpoint that is down, by its last fault."""
        url, fault = self.settings.base_url, self.last_fault
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

    async def ask(self, request: TeacherRequest) -> TeacherReply:
        """One request with its retries. Raises PolicyError for what ends everything, _Abandoned if never sent."""
        tokens = request_tokens(self.settings, request)
        if all(sent_as_it_is(image, self.settings.longest_edge) for image in request.images):
            body = request_body(self.settings, request)
        else:
            body = await asyncio.to_thread(request_body, self.settings, request)
        retrying = AsyncRetrying(
            retry=retry_if_exception_type(_Passing),
            stop=self.is_enough,
            wait=self.wait_s,
            sleep=self.sleep,
            reraise=True,
        )
        attempts = 0
        try:
            async for attempt in retrying:
                with attempt:
                    expected = tokens + self.expected_answer()
                    await self.limit.turn(expected)
                    await self.sleep(0)
                    attempts += 1
                    reply = await self.attempt(body, tokens, expected)
        except _Passing as error:
            return TeacherReply("failed", detail=str(error), cost_usd=0.0, attempts=attempts)
        except _Abandoned:
            if not attempts:
                raise
            return TeacherReply("failed", detail="stopped before its next attempt", cost_usd=0.0, attempts=attempts)
        return replace(reply, attempts=attempts)

    def is_enough(self, state: RetryCallState) -> bool:
        """Whether a request that failed has had its attempts, or the run its requests."""
        return state.attempt_number >= self.settings.attempts or not self.budget.admit_again()

    def wait_s(self, state: RetryCallState) -> float:
        """Exponential back-off with full jitter, and never less than the server asked for."""
        jittered = wait_random_exponential(multiplier=self.settings.backoff_s, max=LONGEST_BACKOFF_S)(state)
        error = state.outcome.exception() if state.outcome else None
        return jittered + (error.after_s if isinstance(error, _Passing) else 0.0)

    def expected_answer(self) -> int:
        """Tokens that an answer will have: the mean of those so far, at first the most it may have."""
        return round(self.answer_tokens / self.answers) if self.answers else self.settings.max_tokens

    async def attempt(self, body: dict[str, Any], tokens: int, expected: int) -> TeacherReply:
        """Send once; `tokens` are the prompt's, `expected` those of prompt and answer.

        The time-out is for the whole exchange, so a slow drip cannot hold a place for ever.
        """
        used = 0
        self.in_flight += 1
        self.tokens_in_flight += expected
        try:
            async with asyncio.timeout(self.settings.timeout_s):
                response: httpx2.Response = await self.client.post(
                    "/chat/completions", cast_to=httpx2.Response, body=body
                )
            self.observe(response, expected)
            reply = self.teacher.read(parse_completion(response.content), tokens)
            used = reply.usage.prompt + reply.usage.completion
            self.answer_tokens += reply.usage.completion
            self.answers += 1
            return reply
        except Malformed as error:
            raise _Passing(f"malformed: {error}") from error
        except TimeoutError as error:
            raise _Passing(f"timeout after {self.settings.timeout_s:g} s") from error
        except openai.APIConnectionError as error:
            raise _Passing(f"connection: {type(error.__cause__ or error).__name__}") from error
        except openai.APIStatusError as error:
            self.observe(error.response, expected)
            return self.status_error(error)
        finally:
            self.in_flight -= 1
            self.tokens_in_flight -= expected
            self.limit.settle(expected, used)

    def observe(self, response: httpx2.Response, expected: int) -> None:
        """Keep to the limits that the answer's headers tell."""
        self.limit.observe(response.headers, self.in_flight - 1, self.tokens_in_flight - expected)

    def status_error(self, error: openai.APIStatusError) -> TeacherReply:
        """What an HTTP error means: raise _Passing, end everything, or record that this request is rejected."""
        status = error.status_code
        detail = self.teacher.reason(status, {"error": error.body})
        if status in KEY_REFUSED:
            raise self.teacher.key_refused(status) from None
        if status in REJECTED:
            return TeacherReply("rejected", detail=detail, cost_usd=0.0)
        if status == 429 and error.code == "insufficient_quota":
            raise PolicyError(
                f"the account behind {self.settings.api_key_env} has no credit left ({detail});"
                " add some, then run again"
            ) from None
        if status in PASSING or status >= 500:
            after_s = retry_after_s(error.response.headers) or 0.0
            if after_s > LONGEST_PAUSE_S:
                raise TeacherOutage(
                    f"teacher at {self.settings.base_url} asks to wait {after_s:.0f} s ({detail}); run again then"
                ) from None
            self.limit.pause(after_s)
            raise _Passing(detail, after_s) from None
        raise PolicyError(
            f"teacher at {self.settings.base_url} answered {detail}; see teacher.base_url and teacher.model"
        ) from None


async def _some(running: Iterable[asyncio.Task[TeacherReply]]) -> set[asyncio.Task[TeacherReply]]:
    done, _ = await asyncio.wait(running, timeout=TICK_S, return_when=asyncio.FIRST_COMPLETED)
    return done
