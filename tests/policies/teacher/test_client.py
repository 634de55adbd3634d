"""The teacher's client over real HTTP, against a server that goes wrong in every way."""

import logging
import random
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from policies.teacher.budget import Budget, Limit
from policies.teacher.client import Teacher
from policies.teacher.completion import TeacherReply
from policies.teacher.errors import TeacherError, TeacherOutage
from policies.teacher.image_parts import ImageFile
from policies.teacher.prices import Price, Usage
from policies.teacher.rate_limit import BURST_S
from policies.teacher.request import TeacherRequest, TeacherSettings
from policies.teacher.request_pool import MAX_REJECTED_AT_START
from tests.support.fault_server import FaultServer, serve

KEY = "sk-a-secret-key-of-this-test"
PROMPT = "Write a rationale.\n\nQuestion: what color is it?\nAccepted answer: red\n"
PRICE = Price(2.5, 1.25, 10.0)


def request(number: int = 1, *images: ImageFile) -> TeacherRequest:
    return TeacherRequest(str(number), f"{PROMPT}{number}", images)


def teacher(server: FaultServer | str, **settings: Any) -> Teacher:
    url = server if isinstance(server, str) else server.url
    quick = {"attempts": 4, "backoff_s": 0.02, "timeout_s": 5.0, "price": PRICE, **settings}
    return Teacher(TeacherSettings(url, "m", **quick))


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


def ask(asked: Teacher, count: int = 1, **options: Any) -> list[tuple[TeacherRequest, TeacherReply]]:
    requests = (request(number) for number in range(count))
    return [answered for group in asked.ask_all(requests, **options) for answered in group]


def collect(groups: Iterator[list[tuple[TeacherRequest, TeacherReply]]], into: list[TeacherReply]) -> None:
    """Keep every reply that comes, also if the iteration ends in an error."""
    for group in groups:
        into += [reply for _, reply in group]


@pytest.mark.parametrize(
    "fault", ["429", "429 retry-after", "500", "502", "503", "reset", "not json", "html", "no completion", "odd choice"]
)
def test_what_may_pass_is_asked_again_and_booked_once(fault: str) -> None:
    with serve(lambda number, _: fault if number < 2 else "ok") as server:
        ((_, reply),) = ask(teacher(server))
    assert reply.status == "answered"
    assert reply.attempts == 3
    assert reply.usage == Usage(100, 0, 20)
    assert reply.cost_usd == pytest.approx((100 * 2.5 + 20 * 10.0) / 1e6)
    assert sum(server.asked.values()) == 3


@pytest.mark.parametrize("fault", ["hang", "drip"])
def test_a_slow_request_is_cut_off_and_asked_again(fault: str) -> None:
    with serve(lambda number, _: fault if number < 1 else "ok") as server:
        started = time.monotonic()
        ((_, reply),) = ask(teacher(server, timeout_s=0.5))
    assert reply.status == "answered"
    assert reply.attempts == 2
    assert 0.5 < time.monotonic() - started < 3


@pytest.mark.parametrize(
    ("fault", "status", "finish_reason"),
    [
        ("empty choices", "empty", "unknown"),
        ("null content", "empty", "stop"),
        ("length", "answered", "length"),
        ("content_filter", "content_filter", "content_filter"),
        ("refusal", "refusal", "stop"),
        ("wrong type", "answered", "stop"),
    ],
)
def test_a_paid_answer_is_recorded_and_never_asked_again(fault: str, status: str, finish_reason: str) -> None:
    with serve(fault) as server:
        ((_, reply),) = ask(teacher(server))
    assert (reply.status, reply.finish_reason, reply.attempts) == (status, finish_reason, 1)
    assert reply.cost_usd == pytest.approx((100 * 2.5 + 20 * 10.0) / 1e6)
    assert sum(server.asked.values()) == 1


@pytest.mark.parametrize("fault", ["50 MB", "unfolds to 50 MB", "long text"])
def test_a_far_too_long_answer_is_booked_unread(fault: str) -> None:
    with serve(lambda number, _: fault if number == 0 else "ok") as server:
        started = time.monotonic()
        (_, reply), (_, next_one) = ask(teacher(server, concurrency=1), 2)
    assert time.monotonic() - started < 10
    assert (reply.status, reply.text, reply.attempts, next_one.status) == ("too_long", "", 1, "answered")
    assert reply.cost_usd is not None
    assert reply.cost_usd > 0
    assert sum(server.asked.values()) == 2


def test_an_error_of_50_mb_is_an_error() -> None:
    with serve(lambda number, _: "50 MB of an error" if number == 0 else "ok") as server:
        ((_, reply),) = ask(teacher(server))
    assert (reply.status, reply.attempts) == ("answered", 2)


USED_UP = {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "24h"}


def test_a_limit_used_up_for_a_day_ends_the_asking() -> None:
    with serve("ok", headers=USED_UP) as server:
        got: list[TeacherReply] = []
        with pytest.raises(
            TeacherOutage, match=r"takes no more requests for 86\d\d\d s, until 20\d\d-.*; run again then"
        ):
            collect(teacher(server, concurrency=1).ask_all(request(n) for n in range(9)), got)
    assert len(got) == 1


def test_a_rejected_request_is_recorded_and_others_go_on() -> None:
    with serve(lambda number, _: "400" if number == 0 else "ok") as server:
        replies = ask(teacher(server, concurrency=1), 3)
    assert [reply.status for _, reply in replies] == ["rejected", "answered", "answered"]
    assert replies[0][1].detail == "400: Image is too large: 30000x30000"
    assert replies[0][1].cost_usd == 0
    assert sum(server.asked.values()) == 3


def test_a_server_that_rejects_everything_stops_with_its_reason() -> None:
    with serve("400") as server, pytest.raises(TeacherError, match=r"rejects every request \(400: Image is too large"):
        ask(teacher(server, concurrency=4), 1000)
    assert sum(server.asked.values()) < MAX_REJECTED_AT_START + 8


@pytest.mark.parametrize("fault", ["no usage", "odd usage"])
def test_missing_usage_is_estimated_and_said_to_be(fault: str) -> None:
    with serve(fault) as server:
        ((_, reply),) = ask(teacher(server))
    assert reply.status == "answered"
    assert not reply.usage_reported
    assert reply.usage.prompt > 10
    assert reply.usage.completion > 0
    assert reply.cost_usd is not None
    assert reply.cost_usd > 0


def test_cached_tokens_cost_what_cached_tokens_cost() -> None:
    with serve("cached") as server:
        ((_, reply),) = ask(teacher(server))
    assert reply.usage == Usage(1000, 600, 10)
    assert reply.cost_usd == pytest.approx((400 * 2.5 + 600 * 1.25 + 10 * 10.0) / 1e6)


@pytest.mark.parametrize(
    ("fault", "message"),
    [("401", "OPENAI_API_KEY"), ("403", "OPENAI_API_KEY"), ("404", "teacher.model"), ("quota", "no credit left")],
)
def test_what_no_retry_can_mend_stops_at_once(fault: str, message: str) -> None:
    with serve(fault) as server, pytest.raises(TeacherError, match=message) as caught:
        ask(teacher(server, concurrency=1), 50)
    assert sum(server.asked.values()) == 1
    assert KEY not in str(caught.value)
    assert not isinstance(caught.value, TeacherOutage)


def test_the_message_names_the_configured_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTHER_KEY", KEY)
    with serve("401") as server, pytest.raises(TeacherError, match="OTHER_KEY"):
        ask(teacher(server, api_key_env="OTHER_KEY"))
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(TeacherError, match="OPENAI_API_KEY is not set"):
        teacher("http://127.0.0.1:9/v1")
    assert teacher("http://127.0.0.1:9/v1", api_key_env="")


def test_retry_after_is_obeyed_by_everyone() -> None:
    with serve(lambda number, _: "429 retry-after" if number == 0 else "ok") as server:
        replies = ask(teacher(server, concurrency=1), 3)
    assert [reply.status for _, reply in replies] == ["answered"] * 3
    assert server.times[1] - server.times[0] >= 0.3


def test_a_wait_of_an_hour_ends_the_asking() -> None:
    with serve(lambda number, _: "429 wait an hour" if number == 2 else "ok") as server:
        got: list[TeacherReply] = []
        with pytest.raises(TeacherOutage, match="asks to wait 3600 s"):
            collect(teacher(server, concurrency=1).ask_all(request(n) for n in range(9)), got)
    assert len(got) == 2


@pytest.mark.parametrize(
    ("fault", "message"),
    [("500", "is down \\(500"), ("429", "limiting the rate"), ("html", "teacher.base_url"), ("hang", "time-?out")],
)
def test_an_endpoint_that_stays_down_opens_the_circuit_breaker(fault: str, message: str) -> None:
    with serve(lambda number, _: "ok" if number < 5 else fault) as server:
        got: list[TeacherReply] = []
        unlucky = teacher(server, attempts=2, concurrency=8, timeout_s=0.3)
        with pytest.raises(TeacherOutage, match=message):
            collect(unlucky.ask_all(map(request, range(1000))), got)
    assert sum(reply.status == "answered" for reply in got) == 5
    assert {reply.status for reply in got} == {"answered", "failed"}
    assert sum(server.asked.values()) < 60


def test_an_endpoint_out_of_reach_is_named_with_the_cure() -> None:
    with pytest.raises(TeacherOutage, match=r"teacher unreachable at http://127\.0\.0\.1:9/v1; .*teacher\.enabled"):
        ask(teacher("http://127.0.0.1:9/v1", attempts=2))


def test_a_request_that_always_fails_is_marked_others_answered() -> None:
    with serve(lambda _, prompt: "500" if prompt.endswith("\n7") else "ok") as server:
        replies = {asked.key: reply for asked, reply in ask(teacher(server, attempts=3), 30)}
    assert replies.pop("7").detail == "500: no"
    assert {reply.status for reply in replies.values()} == {"answered"}
    assert len(replies) == 29


FAULTS = ("429", "429 retry-after-ms", "500", "503", "reset", "not json", "html", "content_filter", "400", "no usage")


@pytest.mark.heavy
def test_1000_requests_with_faults_end_answered_once_or_marked() -> None:
    rng, lock = random.Random(1), threading.Lock()

    def behave(_: int, prompt: str) -> str:
        with lock:
            return rng.choice(FAULTS) if rng.random() < 0.2 else "ok"

    with serve(behave) as server:
        replies = ask(teacher(server, concurrency=32, attempts=8), 1000)
    assert sorted(int(asked.key) for asked, _ in replies) == list(range(1000))
    for asked, reply in replies:
        assert server.answered[asked.prompt] <= 1
        assert reply.status in ("answered", "content_filter", "rejected"), reply
        if reply.status == "rejected":
            assert reply.cost_usd == 0
    paid = sum(server.answered.values())
    reported = [reply for _, reply in replies if reply.status == "answered" and reply.usage_reported]
    assert len(reported) == paid
    assert sum(reply.cost_usd or 0 for reply in reported) == pytest.approx(paid * 450 / 1e6)
    assert any(reply.attempts > 1 for _, reply in replies)


def test_an_error_of_our_own_also_waits_for_what_is_in_flight() -> None:
    broken = ImageFile(b"no image", "bmp", 4, 4)
    requests = [request(0), request(1), request(2, broken), *map(request, range(3, 99))]
    got: list[TeacherReply] = []
    with serve("ok", delay_s=0.1) as server:
        with pytest.raises(OSError, match="cannot identify image"):
            collect(teacher(server, concurrency=3).ask_all(requests), got)
        assert 2 <= len(got) == sum(server.answered.values()) < 30


def test_what_was_answered_before_a_failure_is_handed_out() -> None:
    with serve(lambda number, _: "ok" if number < 2 else "401") as server:
        groups = teacher(server, concurrency=1).ask_all(map(request, range(6)))
        assert next(groups)[0][0].key == "0"
        assert next(groups)[0][0].key == "1"
        with pytest.raises(TeacherError):
            list(groups)


def test_a_stop_returns_requests_in_flight_and_sends_no_more() -> None:
    seen: list[TeacherReply] = []
    with serve("ok", delay_s=0.05) as server:
        collect(teacher(server, concurrency=4).ask_all(map(request, range(50)), lambda: len(seen) >= 3), seen)
    assert 3 <= len(seen) == sum(server.asked.values()) <= 8


def test_stopping_does_not_wait_for_back_off_or_limits() -> None:
    with serve("429 retry-after") as server:
        started = time.monotonic()
        quick = teacher(server, backoff_s=1000.0, requests_per_minute=6)
        replies = [reply for _, reply in ask(quick, 5, stopping=lambda: time.monotonic() - started > 0.5)]
    assert {(reply.status, reply.attempts) for reply in replies} == {("failed", 1)}
    assert len(replies) == sum(server.asked.values())
    assert time.monotonic() - started < 2


def budget(**limits: float) -> Budget:
    return Budget([Limit(name, left, name == "max_requests") for name, left in limits.items()])


def test_the_budget_ends_the_asking_and_is_never_overrun() -> None:
    with serve("ok", delay_s=0.01) as server:
        for limits, requests in (({"budget_usd": 0.0101}, 16), ({"max_requests": 7}, 7), ({"budget_usd": 0.0}, 0)):
            left = budget(**limits)
            replies = ask(teacher(server, concurrency=8), 100, budget=left)
            spent = sum(reply.cost_usd or 0 for _, reply in replies)
            assert left.exhausted == next(iter(limits))
            assert spent <= limits.get("budget_usd", 1)
            assert len(replies) == requests


def test_a_budget_with_room_lets_everything_through() -> None:
    with serve("ok") as server:
        left = budget(budget_usd=1.0, max_requests=30)
        assert len(ask(teacher(server), 30, budget=left)) == 30
        assert left.exhausted is None


def seconds_used(server: FaultServer) -> float:
    """From the first request to the last, with what a limit may run ahead and a network's jitter on top."""
    return server.times[-1] - server.times[0] + 2 * BURST_S


def test_requests_a_minute_are_kept() -> None:
    with serve("ok") as server:
        ask(teacher(server, requests_per_minute=3000, concurrency=32), 75)
    assert len(server.times) <= seconds_used(server) * 3000 / 60


def test_tokens_per_minute_count_the_tokens_used() -> None:
    with serve("ok") as server:
        started = time.monotonic()
        ask(teacher(server, tokens_per_minute=360_000, max_tokens=1000, concurrency=16), 90)
        at_most_tokens_each_s = 90 * 1000 * 60 / 360_000
    assert 120 * len(server.times) <= seconds_used(server) * 360_000 / 60 + 16 * 120
    assert time.monotonic() - started < at_most_tokens_each_s / 3


def test_the_servers_own_limit_headers_are_kept() -> None:
    headers = {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "200ms"}
    with serve("ok", headers=headers) as server:
        ask(teacher(server, concurrency=1), 4)
    gaps = [later - earlier for earlier, later in zip(server.times, server.times[1:], strict=False)]
    assert all(gap >= 0.2 for gap in gaps)


@pytest.mark.parametrize("fault", ["401", "400", "500", "ok", "html"])
def test_the_key_appears_nowhere_but_in_its_header(
    fault: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    with serve(fault) as server:
        asked = teacher(server, attempts=1)
        said = repr((asked.settings, vars(asked.settings)))
        try:
            said += repr(ask(asked))
        except TeacherError as error:
            said += f"{error!r} {error.__cause__!r}"
        assert KEY in server.request_headers[0]
        assert KEY not in str(server.bodies)
    assert KEY not in said
    assert KEY not in caplog.text
    assert KEY not in "".join(capfd.readouterr())


def test_a_server_that_echoes_the_key_does_not_get_it_recorded() -> None:
    asked = teacher("http://127.0.0.1:9/v1")
    body: dict[str, object] = {"choices": [{"message": {"content": f"your key is {KEY}"}, "finish_reason": KEY}]}
    reply = asked.replies.read(body, 10)
    assert (reply.text, reply.finish_reason) == ("your key is [key]", "[key]")
    for padding in range(250, 310):
        body = {"choices": [{"message": {"refusal": "x" * padding + KEY}}], "error": {"message": "x" * padding + KEY}}
        assert "sk-" not in asked.replies.read(body, 10).detail + asked.replies.describe_error(400, body)


def test_azures_dated_interface_gets_its_version_and_its_header() -> None:
    with serve("ok") as server:
        ask(teacher(server, api_version="2024-10-21"))
    head = server.request_headers[0]
    assert head.startswith("POST /v1/chat/completions?api-version=2024-10-21 ")
    assert f"api-key: {KEY}" in head


def test_what_is_asked_of_this_machine_goes_to_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    with serve() as server, serve() as proxy:
        for variable in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            monkeypatch.setenv(variable, proxy.url.removesuffix("/v1"))
        ((_, reply),) = ask(teacher(server))
        assert reply.status == "answered"
        assert sum(server.asked.values()) == 1
        assert not proxy.asked
