"""Asking with the store: nothing paid twice, whatever is killed; budgets; batches across restarts."""

import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlite_utils import Database

from loop.config.teacher import NOTES
from loop.teaching.ask_live import ask_live
from loop.teaching.templates import chain_of, template
from loop.terminal.console import Console
from policies.teacher.errors import TeacherOutage
from store import Store, open_store
from store.database import APPLICATION_ID
from store.schema.migrations import MIGRATIONS
from store.teacher.calls import spent
from tests.support.command_line import PROJECT
from tests.support.fault_server import serve
from tests.support.teacher_sessions import session_with, store_with_questions, tasks_of

QUESTIONS = 600


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = store_with_questions(tmp_path, 20)
    yield opened
    opened.close()


@pytest.mark.heavy
def test_sigkill_with_200_requests_repeats_no_committed_one(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    store_with_questions(run_dir, QUESTIONS).close()
    with serve("ok", delay_s=0.2) as server:
        command = [sys.executable, str(PROJECT / "tests" / "support" / "ask_process.py"), str(run_dir), server.url]
        process = subprocess.Popen(command, cwd=PROJECT, env={"PYTHONPATH": str(PROJECT)})
        while sum(server.answered.values()) < 250:
            assert process.poll() is None
            time.sleep(0.005)
        process.kill()
        process.wait()
        store = open_store(run_dir)
        committed = store.value("SELECT count(*) FROM teacher_call WHERE status = 'answered'")
        assert 0 < committed < QUESTIONS
        at_the_kill = server.asked.copy()
        done = subprocess.run(
            command, cwd=PROJECT, env={"PYTHONPATH": str(PROJECT)}, capture_output=True, text=True, check=True
        )
        assert int(done.stdout) == QUESTIONS - committed
        assert sum((server.asked - at_the_kill).values()) == QUESTIONS - committed
        repeated = sum(count - 1 for count in server.asked.values())
        assert repeated <= 200, "only what was in flight at the kill may be asked again"
        assert len(server.asked) == QUESTIONS
    assert store.value("SELECT count(*) FROM teacher_call WHERE status = 'answered'") == QUESTIONS
    store.close()


def test_only_failed_requests_are_asked_again(store: Store) -> None:
    with serve(lambda _, prompt: "500" if "q3?" in prompt else "ok") as server:
        session = session_with(store, server.url)
        assert sum(len(calls) for calls in ask_live(session, tasks_of(store))) == 20
    (failed,) = store.rows("SELECT * FROM teacher_call WHERE status = 'failed'")
    assert (failed["detail"], failed["cost_usd"], failed["attempts"]) == ("500: no", 0, 2)
    with serve("ok") as server:
        session = session_with(store, server.url, number=2)
        assert [len(calls) for calls in ask_live(session, tasks_of(store))] == [1]
        assert list(ask_live(session, tasks_of(store))) == []
    assert sum(server.asked.values()) == 1
    (mended,) = store.rows("SELECT * FROM teacher_call WHERE hash = ?", failed["hash"])
    assert (mended["status"], mended["round"], mended["attempts"]) == ("answered", 2, 3)


def test_a_request_that_always_fails_does_not_block_a_resume(store: Store) -> None:
    with serve(lambda _, prompt: "500" if "q3?" in prompt else "ok") as server:
        for expected in (20, 1, 1):
            assert sum(len(calls) for calls in ask_live(session_with(store, server.url), tasks_of(store))) == expected


@pytest.mark.parametrize("concurrency", [2, 8])
def test_every_attempt_counts_against_max_requests(store: Store, concurrency: int) -> None:
    keys: dict[str, Any] = {"max_requests": 70, "attempts": 4, "concurrency": concurrency}
    with serve("500") as server:
        for _ in range(9):
            with suppress(TeacherOutage):
                list(ask_live(session_with(store, server.url, **keys), tasks_of(store)))
            assert sum(server.asked.values()) == spent(store)[0] <= 70
    assert spent(store)[0] == 70


def test_a_budget_that_ends_in_retries_is_said_and_is_no_outage(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    with serve(lambda _, prompt: "ok" if "q0?" in prompt else "500") as server:
        session = session_with(store, server.url, max_requests=4, attempts=3, concurrency=3)
        list(ask_live(replace(session, reporter=Console()), tasks_of(store)))
    assert sum(server.asked.values()) == 4
    assert "budget is spent (teacher.max_requests = 4)" in capsys.readouterr().out


def test_cost_comes_from_usage_and_the_budget_ends_the_asking(store: Store) -> None:
    with serve("ok") as server:
        session = session_with(store, server.url, max_requests=12, concurrency=3)
        list(ask_live(session, tasks_of(store)))
        requests, usd = spent(store)
        assert requests == 12
        assert usd == pytest.approx(12 * 450 / 1e6)
        assert sum(server.asked.values()) == 12
        list(ask_live(session_with(store, server.url, max_requests=12), tasks_of(store)))
        assert sum(server.asked.values()) == 12
        list(
            ask_live(session_with(store, server.url, budget_usd=12 * 450 / 1e6 + 0.004, concurrency=3), tasks_of(store))
        )
        assert 12 < sum(server.asked.values()) < 20
        assert spent(store)[1] <= 12 * 450 / 1e6 + 0.004


def test_only_rounds_after_the_cold_start_have_their_own_budget(store: Store) -> None:
    with serve("ok") as server:
        keys: dict[str, Any] = {"round_max_requests": 4, "max_requests": 10}
        for number, expected in ((1, 4), (2, 8), (3, 10), (4, 10)):
            list(ask_live(session_with(store, server.url, number=number, **keys), tasks_of(store)))
            assert sum(server.asked.values()) == expected
        for number, allowed in ((0, True), (1, False)):
            session = session_with(store, server.url, number=number, round_max_requests=4)
            assert session.remaining_budget().reserve(1.0) is allowed


def test_the_spent_budget_is_said_with_its_key(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    with serve("ok") as server:
        session = session_with(store, server.url, max_requests=1)
        list(ask_live(replace(session, reporter=Console()), tasks_of(store)))
    said = capsys.readouterr().out
    assert "budget is spent (teacher.max_requests = 1); the loop continues without the teacher" in said


def test_ctrl_c_keeps_what_was_paid_for(store: Store) -> None:
    with serve("ok", delay_s=0.05) as server:
        session = session_with(store, server.url, stopping=lambda: sum(server.asked.values()) >= 5, concurrency=4)
        list(ask_live(session, tasks_of(store)))
        answered = store.value("SELECT count(*) FROM teacher_call WHERE status = 'answered'")
        assert 5 <= answered == sum(server.asked.values()) < 20


def test_placeholders_in_a_question_stay_text_after_the_notes() -> None:
    asked = template("rationale", ("no_units", "lower_case"))
    prompt = asked.fill(question="what is {answer}?", answer="{question}")
    assert "Question: what is {answer}?\nAccepted answer: {question}\n" in prompt
    assert "without its unit.\nWrite the answer in lower case.\n" in prompt
    assert set(NOTES) == {"no_units", "option_letter", "copy_from_document", "lower_case"}


def test_only_the_chain_of_a_correction_is_trained_on() -> None:
    correct, solve = template("correct"), template("solve")
    assert (
        chain_of(correct, "### Mistake: x\n### Chain:\nIt is red.\n### Answer: red\n") == "It is red.\n### Answer: red"
    )
    assert chain_of(correct, "It is red.\n### Answer: red") == ""
    assert chain_of(solve, "It is red.\n### Answer: red") == "It is red.\n### Answer: red"


def test_an_older_stores_calls_are_migrated(tmp_path: Path) -> None:
    run_dir = tmp_path / "old"
    run_dir.mkdir()
    connection = sqlite3.connect(run_dir / "store.db")
    database = Database(connection)
    MIGRATIONS.apply(database, stop_before="m003_teacher")
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(
        "INSERT INTO question (hash, text, answers, judge, split, source, batch)"
        " VALUES ('h', 'q?', '[]', 'exact', 'train', 's', 0)"
    )
    for key, status in (("a", "kept"), ("b", "dropped: wrong"), ("c", "refused (400)")):
        columns = "(hash, purpose, round, question, model, status, created)"
        connection.execute(
            f"INSERT INTO teacher_call {columns} VALUES (?, 'cold_start', 0, 1, 'm', ?, '')", (key, status)
        )
    connection.commit()
    database.close()
    store = open_store(run_dir)
    rows = store.rows("SELECT status, attempts, usage, cost_usd FROM teacher_call ORDER BY hash")
    assert [tuple(row) for row in rows] == [
        ("answered", 1, "reported", None),
        ("answered", 1, "reported", None),
        ("rejected", 1, "reported", None),
    ]
    assert store.value("SELECT suspect FROM question") is None
    store.close()
