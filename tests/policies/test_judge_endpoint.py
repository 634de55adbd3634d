"""The endpoint of judge `llm`: what it answers is text, however much it sends."""

import time
from typing import Any

import pytest

from policies import PolicyError
from policies.judge_endpoint import JudgeEndpoint
from tests.support.fault_server import serve


@pytest.mark.parametrize("fault", ["50 MB", "unfolds to 50 MB"])
def test_an_answer_of_50_mb_is_none_and_is_not_asked_for_again(fault: str) -> None:
    with serve(fault) as server:
        started = time.monotonic()
        assert JudgeEndpoint(server.url, "m", 10, 20.0).ask("is it right?") == ""
        assert sum(server.asked.values()) == 1
    assert time.monotonic() - started < 10


ODD: list[str | dict[str, Any]] = [
    *("not json", "html", "no completion", "odd choice"),
    {"choices": {"a": 1}},
]


@pytest.mark.parametrize("fault", ODD)
def test_a_malformed_completion_is_an_error_at_once(fault: str | dict[str, Any]) -> None:
    with serve(lambda *_: fault) as server, pytest.raises(PolicyError, match="does not answer as an OpenAI-compatible"):
        JudgeEndpoint(server.url, "m", 10, 20.0).ask("is it right?")
    with serve(lambda number, _: "ok" if number == 0 else fault) as server:
        endpoint = JudgeEndpoint(server.url, "m", 10, 20.0)
        assert endpoint.ask("is it right?").endswith("red")
        assert endpoint.ask("is it right?") == ""


@pytest.mark.parametrize("content", [5, ["a"], {"a": 1}, None, True])
def test_a_content_that_is_no_text_is_none(content: object) -> None:
    with serve(lambda *_: {"choices": [{"message": {"content": content}}]}) as server:
        assert JudgeEndpoint(server.url, "m", 10, 20.0).ask("is it right?") == ""


def test_half_a_surrogate_pair_in_an_answer_becomes_text() -> None:
    with serve(lambda *_: {"choices": [{"message": {"content": "\ud800 no"}}]}) as server:
        assert JudgeEndpoint(server.url, "m", 10, 20.0).ask("is it right?") == "? no"


def test_an_ordinary_answer_is_its_text() -> None:
    with serve("ok") as server:
        assert JudgeEndpoint(server.url, "m", 10, 20.0).ask("is it right?") == "It is red.\n### Answer: red"
