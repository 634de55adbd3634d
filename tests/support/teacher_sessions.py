"""Shared by tests of teaching: a store of questions, tasks made of them, and a teacher session with a server."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from loop.config.teacher import TeacherConfig
from loop.reporting import Reporter
from loop.teaching.setup import teacher_settings
from loop.teaching.tasks import TeacherTask
from loop.teaching.teacher_session import TeacherSession
from loop.teaching.templates import template
from loop.terminal.console import Console
from policies.teacher.client import Teacher
from store import Store, open_store
from store.new_questions import NewQuestion, add_questions
from store.questions import find_questions


def store_with_questions(run_dir: Path, count: int) -> Store:
    """Make a store with `count` questions."""
    run_dir.mkdir(exist_ok=True)
    store = open_store(run_dir, create=True)
    add_questions(store, (NewQuestion(f"q{n}?", ["red"], [], "train", "test", "exact") for n in range(count)))
    return store


def tasks_of(store: Store, name: str = "solve") -> list[TeacherTask]:
    """A task with this template for every question of the store."""
    asked = template(name)
    return [
        TeacherTask(question, asked, asked.fill(question=question.text, answer="red", chain="?"))
        for question in find_questions(store, "1 ORDER BY id")
    ]


def session_with(
    store: Store,
    url: str,
    number: int = 1,
    stopping: Callable[[], bool] = lambda: False,
    reporter: Reporter | None = None,
    **keys: Any,
) -> TeacherSession:
    """A session of round `number` with the server at `url`; `keys` are keys of `[teacher]`."""
    tables = {"base_url": url, "model": "gpt-4o", "attempts": 2, "backoff_s": 0.01, **keys}
    config = TeacherConfig.model_validate(tables)
    teacher = Teacher(teacher_settings(config, url), embedded=True)
    return TeacherSession(store, teacher, config, reporter or Console(quiet=True), number, "solve", stopping)
