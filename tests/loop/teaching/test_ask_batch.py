"""The Batch API: sent once, waited for across restarts, reconciled item by item, at half the price."""

from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from loop.teaching.ask_batch import DEFAULT_LIMITS, BatchLimits, ask_batch
from loop.teaching.teacher_session import TeacherSession
from loop.terminal.console import Console
from policies.teacher.embedded_server import serve_teacher
from policies.teacher.errors import TeacherError, TeacherOutage
from store import Store
from store.teacher.calls import open_batches, spent
from tests.support.batch_server import serve_batches
from tests.support.teacher_sessions import session_with, store_with_questions, tasks_of


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = store_with_questions(tmp_path, 20)
    yield opened
    opened.close()


def batch_session(store: Store, url: str, stopping: Callable[[], bool] = lambda: False, **keys: Any) -> TeacherSession:
    return session_with(store, url, stopping=stopping, mode="batch", batch_poll_s=0.01, **keys)


def run(
    store: Store,
    url: str,
    limits: BatchLimits = DEFAULT_LIMITS,
    stopping: Callable[[], bool] = lambda: False,
    **keys: Any,
) -> int:
    """Ask through the batch endpoints; returns how many calls have an outcome."""
    session = batch_session(store, url, stopping, **keys)
    return sum(len(calls) for calls in ask_batch(session, tasks_of(store), limits))


def statuses(store: Store) -> dict[str, int]:
    return {row[0]: row[1] for row in store.rows("SELECT status, count(*) FROM teacher_call GROUP BY status")}


def test_everything_is_answered_once_at_half_the_price(store: Store) -> None:
    with serve_batches() as server:
        assert run(store, server.url) == 20
        assert run(store, server.url) == 0
    assert len(server.batches) == 1
    assert statuses(store) == {"answered": 20}
    requests, usd = spent(store)
    assert requests == 20
    assert usd == pytest.approx(20 * 450 / 1e6 / 2)
    assert open_batches(store) == []


def test_only_failed_or_expired_items_are_sent_again(store: Store) -> None:
    fates = {
        "q1?": "500",
        "q2?": "expired",
        "q3?": "missing",
        "q4?": "400",
        "q5?": "content_filter",
        "q6?": "odd choice",
    }

    def item(prompt: str) -> str:
        return next((fate for name, fate in fates.items() if f" {name}" in prompt), "ok")

    with serve_batches(item) as server:
        run(store, server.url)
        assert statuses(store) == {"answered": 14, "content_filter": 1, "failed": 4, "rejected": 1}
        details = {row[0] for row in store.rows("SELECT detail FROM teacher_call WHERE status = 'failed'")}
        assert details == {
            "500: no",
            "batch: batch_expired",
            "batch: completed",
            "malformed: the answer's choice has no message",
        }
        fates.clear()
        assert run(store, server.url) == 4
    assert statuses(store) == {"answered": 18, "content_filter": 1, "rejected": 1}
    assert [len(file.splitlines()) for name, file in server.files.items() if name.startswith("file")] == [20, 4]


@pytest.mark.parametrize("status", ["401", "403"])
def test_an_item_that_the_server_may_not_answer_keeps_the_others(store: Store, status: str) -> None:
    with serve_batches(lambda prompt: status if "q7?" in prompt else "ok") as server:
        assert run(store, server.url) == 20
    assert statuses(store) == {"answered": 19, "failed": 1}


def test_a_batch_that_expires_keeps_what_was_answered(store: Store) -> None:
    with serve_batches(lambda prompt: "expired" if "q7?" in prompt else "ok", ends_as="expired") as server:
        run(store, server.url)
    assert statuses(store) == {"answered": 19, "failed": 1}


def test_a_failed_batch_is_an_outage_with_its_reason(store: Store) -> None:
    with (
        serve_batches(ends_as="failed") as server,
        pytest.raises(TeacherOutage, match="failed: line 1 is not valid"),
    ):
        run(store, server.url)
    assert statuses(store) == {"failed": 20}


def test_the_next_session_waits_for_the_same_batch(store: Store) -> None:
    with serve_batches(polls=4) as server:
        looks = server.looks
        assert run(store, server.url, stopping=lambda: sum(looks.values()) >= 1) == 0
        assert statuses(store) == {"pending": 20}
        assert run(store, server.url) == 20
    assert len(server.batches) == 1


def test_an_unconfirmed_batch_is_found_and_not_paid_twice(store: Store) -> None:
    with serve_batches() as server:
        server.lose_next_reply = True
        with pytest.raises(TeacherOutage):
            run(store, server.url)
        assert statuses(store) == {"pending": 20}
        assert run(store, server.url) == 20
    assert len(server.batches) == 1


def test_a_batch_that_never_reached_the_server_is_sent_again(store: Store) -> None:
    with serve_batches() as server:
        server.lose_next_reply = True
        with pytest.raises(TeacherOutage):
            run(store, server.url)
        server.batches.clear()
        assert run(store, server.url) == 20
    assert statuses(store) == {"answered": 20}


def test_a_kill_between_two_commits_of_a_fetch_repeats_nothing(store: Store) -> None:
    with serve_batches() as server:
        groups = ask_batch(batch_session(store, server.url), tasks_of(store), BatchLimits(commit_items=3))
        assert isinstance(groups, Generator)
        assert len(next(groups)) == 3
        groups.close()
        assert statuses(store) == {"answered": 3, "pending": 17}
        assert run(store, server.url) == 17
    assert len(server.batches) == 1
    assert spent(store)[1] == pytest.approx(20 * 450 / 1e6 / 2)


def test_the_budget_holds_for_batches_and_is_said(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    with serve_batches() as server:
        session = batch_session(store, server.url, max_requests=6)
        list(ask_batch(replace(session, reporter=Console()), tasks_of(store)))
        assert "teacher.max_requests = 6" in capsys.readouterr().out
        assert statuses(store) == {"answered": 6}
        run(store, server.url, max_requests=6)
    assert len(server.batches) == 1


def test_large_inputs_are_cut_into_several_batches(store: Store) -> None:
    with serve_batches() as server:
        assert run(store, server.url, BatchLimits(max_requests=8)) == 20
    assert [len(file.splitlines()) for name, file in server.files.items() if name.startswith("file")] == [8, 8, 4]


def test_a_server_without_batches_is_named_with_the_cure(store: Store) -> None:
    with serve_teacher(lambda *_: None) as url, pytest.raises(TeacherError, match=r"teacher\.mode = 'live'"):
        run(store, url)
