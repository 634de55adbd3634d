"""Prices, budgets and rate limits: the arithmetic behind the teacher, without a server."""

import asyncio
import contextlib
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.teacher.budget import Budget, Limit
from policies.teacher.completion import MalformedCompletion, TeacherReply, read_completion, server_message
from policies.teacher.prices import Price, Usage, cost_usd, image_tokens, scaled, text_tokens
from policies.teacher.rate_limit import BURST_S, LimitUsedUp, PerMinute, RateLimit, duration_s, retry_after_s

GPT_4O = Price(2.5, 1.25, 10.0)
tokens = st.integers(0, 10**9)


@pytest.mark.parametrize(
    ("width", "height", "expected"),
    [(1024, 1024, 765), (2048, 4096, 1105), (4096, 8192, 1105), (512, 512, 255), (64, 64, 255), (513, 512, 425)],
)
def test_an_image_costs_what_the_published_rule_says(width: int, height: int, expected: int) -> None:
    assert image_tokens(GPT_4O, width, height) == expected


@given(tokens, tokens, tokens)
def test_cost_is_linear_with_cheaper_cache_and_half_for_batches(prompt: int, cached: int, answer: int) -> None:
    cost = cost_usd(GPT_4O, Usage(prompt, cached, answer))
    assert 0 <= cost <= cost_usd(GPT_4O, Usage(prompt, 0, answer)) * (1 + 1e-9)
    assert cost_usd(GPT_4O, Usage(2 * prompt, 2 * cached, 2 * answer)) == pytest.approx(2 * cost)
    assert cost_usd(GPT_4O, Usage(prompt, cached, answer), batch=True) == pytest.approx(cost / 2)


def test_a_million_tokens_cost_their_price() -> None:
    assert cost_usd(GPT_4O, Usage(10**6, 0, 10**6)) == pytest.approx(12.5)
    assert cost_usd(GPT_4O, Usage(10**6, 10**6, 0)) == pytest.approx(1.25)


@given(st.text())
def test_any_text_has_an_estimate(text: str) -> None:
    assert len(text) / 4 <= text_tokens(text) <= len(text) + 1


@given(st.integers(1, 20_000), st.integers(1, 20_000), st.integers(1, 4096))
def test_scaling_never_enlarges_and_keeps_the_shape(width: int, height: int, edge: int) -> None:
    new_width, new_height = scaled(width, height, edge)
    assert max(new_width, new_height) <= max(edge, 0) + 1e-6 or (new_width, new_height) == (width, height)
    assert new_width * height == pytest.approx(new_height * width)


@given(st.floats(0, 10), st.integers(0, 30), st.lists(st.tuples(st.floats(0.001, 2), st.floats(0, 1), st.booleans())))
def test_a_budget_is_never_overrun_whatever_is_in_flight(
    usd: float, requests: int, asked: list[tuple[float, float, bool]]
) -> None:
    budget = Budget([Limit("usd", usd), Limit("requests", requests, per_request=True)])
    in_flight: list[tuple[float, float]] = []
    spent, made = 0.0, 0
    for max_usd, share, settle in asked:
        if budget.reserve(max_usd):
            in_flight.append((max_usd, share * max_usd))
        if in_flight and settle:
            held, cost = in_flight.pop(0)
            budget.settle(held, cost)
            spent, made = spent + cost, made + 1
        assert spent + sum(cost for _, cost in in_flight) <= usd + 1e-6
        assert made + len(in_flight) <= requests


def test_a_budget_names_the_limit_that_refused_the_last_request() -> None:
    budget = Budget([Limit("max_requests", 5, per_request=True), Limit("budget_usd", 1.0)])
    assert budget.reserve(0.7)
    assert not budget.reserve(0.7)
    assert budget.exhausted == "budget_usd"
    budget.settle(0.7, 0.1)
    assert budget.reserve(0.7)
    assert budget.exhausted is None
    budget.settle(0.7, 0.5, made=False)
    assert budget.reserve(0.9)
    budget.settle(0.9, 0.9)
    assert not budget.reserve(0.1)


@given(
    st.floats(1, 10_000),
    st.lists(st.tuples(st.floats(0, 5), st.integers(1, 50)), min_size=1, max_size=60),
)
def test_no_window_holds_more_than_its_share_of_the_limit(units: float, arrivals: list[tuple[float, int]]) -> None:
    now, limit, left = 0.0, PerMinute(units, 0.0), []
    for gap, wanted in arrivals:
        now += gap
        now += limit.wait_s(now)
        limit.take(wanted, now)
        left.append((now, wanted))
    for first in range(len(left)):
        for last in range(first, len(left)):
            window = left[last][0] - left[first][0]
            taken = sum(wanted for _, wanted in left[first:last])
            assert taken <= (window + BURST_S) * units / 60 + 1e-6 * units


class FakeTime:
    """A clock that sleeping moves."""

    def __init__(self) -> None:
        self.now = 0.0

    async def sleep(self, seconds: float) -> None:
        self.now += max(0.0, seconds)


def test_the_limit_is_used_up_to_within_two_percent() -> None:
    time = FakeTime()

    async def ask() -> float:
        limit = RateLimit(600.0, 60_000.0, time.sleep, lambda: time.now)
        for _ in range(600):
            await limit.acquire(400)
            limit.settle(400, 100)
        return time.now

    assert asyncio.run(ask()) == pytest.approx(60.0, rel=0.02)


def test_what_the_server_says_is_left_is_left_and_no_more() -> None:
    time = FakeTime()

    async def ask() -> list[float]:
        limit = RateLimit(None, None, time.sleep, lambda: time.now)
        headers = {
            "x-ratelimit-remaining-requests": "3",
            "x-ratelimit-reset-requests": "1m",
            "x-ratelimit-remaining-tokens": "1000",
            "x-ratelimit-reset-tokens": "30s",
        }
        limit.observe(headers, in_flight=1, tokens_in_flight=500)
        left = []
        for wanted in (100, 100, 100):
            await limit.acquire(wanted)
            left.append(time.now)
        limit.observe({"x-ratelimit-remaining-requests": "9", "x-ratelimit-reset-requests": "1s"}, 0, 0)
        await limit.acquire(500)
        return [*left, time.now]

    assert asyncio.run(ask()) == pytest.approx([0.0, 0.0, 60.0, 60.0])


def test_a_long_wait_is_reported_once_and_a_longer_one_ends_it() -> None:
    time = FakeTime()
    said: list[str] = []

    async def ask() -> None:
        limit = RateLimit(None, None, time.sleep, lambda: time.now, said.append)
        used_up = {"x-ratelimit-remaining-tokens": "10", "x-ratelimit-reset-tokens": "1m"}
        limit.observe(used_up, 0, 0)
        await limit.acquire(500)
        limit.pause(5.0)
        await limit.acquire(1)
        limit.pause(30.0)
        await limit.acquire(1)
        limit.observe({**used_up, "x-ratelimit-reset-tokens": "1d"}, 0, 0)
        await limit.acquire(5)
        await limit.acquire(500)

    with pytest.raises(LimitUsedUp) as raised:
        asyncio.run(ask())
    assert raised.value.what == "tokens"
    assert raised.value.seconds == pytest.approx(86400)
    assert [line.partition(": ")[2] for line in said] == ["its limit of tokens is used up", "it asks for a pause"]
    assert all(line.startswith("  waiting for the teacher until ") for line in said)
    assert time.now == pytest.approx(95.0, abs=1)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("6m0s", 360.0), ("120ms", 0.12), ("1h2m3.5s", 3723.5), ("1.5", 1.5), ("", None), ("soon", None), ("-1s", None)],
)
def test_durations_are_read_as_the_api_writes_them(text: str, seconds: float | None) -> None:
    assert duration_s(text) == seconds


@given(st.text(max_size=20))
def test_odd_headers_are_ignored(text: str) -> None:
    duration_s(text)
    assert (retry_after_s({"retry-after": text}) or 0.0) >= 0.0


def test_retry_after_is_seconds_milliseconds_or_a_date() -> None:
    assert retry_after_s({"retry-after": "7"}) == 7
    assert retry_after_s({"retry-after-ms": "250", "retry-after": "7"}) == 0.25
    assert retry_after_s({"retry-after": formatdate(1_000_060, usegmt=True)}, lambda: 1_000_000.0) == 60
    assert retry_after_s({"retry-after": formatdate(999_000, usegmt=True)}, lambda: 1_000_000.0) == 0
    assert retry_after_s({}) is None


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just("\ud800"),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ("choices", "message", "content", "refusal", "finish_reason", "usage", "prompt_tokens", "error")
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=20,
)


@given(json_values)
def test_whatever_a_server_sends_is_a_reply_or_malformed(body: object) -> None:
    with contextlib.suppress(MalformedCompletion):
        reply = read_completion(body, 10)
        assert isinstance(reply, TeacherReply)
        (reply.text + reply.finish_reason + reply.detail).encode()
    server_message(body).encode()


@pytest.mark.parametrize("tokens", [10**30, -1, True, "many", None, 1e300])
def test_an_impossible_usage_is_replaced_by_an_estimate(tokens: object) -> None:
    choice = {"message": {"content": "an answer"}, "finish_reason": "stop"}
    reply = read_completion({"choices": [choice], "usage": {"prompt_tokens": 3, "completion_tokens": tokens}}, 10)
    assert (reply.status, reply.text, reply.usage_reported, reply.usage.prompt) == ("answered", "an answer", False, 10)
