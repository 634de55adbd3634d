"""The endpoint of judge `llm`: what it answers is text, however much it sends."""

import time

import pytest

from policies.judge_endpoint import JudgeEndpoint
from tests.support.fault_server import serve


@pytest.mark.parametrize("fault", ["50 MB", "unfolds to 50 MB"])
def test_an_answer_of_50_mb_is_none_and_is_not_asked_for_again(fault: str) -> None:
    with serve(fault) as server:
        started = time.monotonic()
        assert JudgeEndpoint(server.url, "m", 10, 20.0).ask("is it right?") == ""
        assert sum(server.asked.values()) == 1
    assert time.monotonic() - started < 10


def test_an_ordinary_answer_is_its_text() -> None:
    with serve("ok") as server:
        assert JudgeEndpoint(server.url, "m", 10, 20.0).ask("is it right?") == "It is red.\n### Answer: red"
