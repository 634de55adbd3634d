"""What tests of asking share: a store of questions, the tasks they make, and an asker for a server."""

from pathlib import Path
from typing import Any

from loop.config.teacher import TeacherConfig
from loop.teaching.ask_live import Asker
from loop.teaching.setup import teacher_settings
from loop.teaching.tasks import Task
from loop.teaching.templates import template
from loop.terminal.console import Console
from policies.teacher.client import Teacher
from store import Store, open_store
from store.questions import NewQuestion, add_questions, find_questions


def fill(run_dir: Path, count: int) -> Store:
    """A store with so many questions."""
    run_dir.mkdir(exist_ok=True)
    store = open_store(run_dir, create=True)
    add_questions(store, (NewQuestion(f"q{n}?", ["red"], [], "train", "test", "exact") for n in range(count)))
    return store


def tasks_of(store: Store, name: str = "solve") -> list[Task]:
    asked = template(name)
    return [
        Task(each, asked, asked.fill(question=each.text, answer="red", chain="?"))
        for each in find_questions(store, "1 ORDER BY id")
    ]


def asker_of(store: Store, url: str, number: int = 1, stopping: Any = lambda: False, **keys: Any) -> Asker:
    config = TeacherConfig(**{"base_url": url, "model": "gpt-4o", "attempts": 2, "backoff_s": 0.01, **keys})
    teacher = Teacher(teacher_settings(config, url), embedded=True)
    return Asker(store, teacher, config, Console(quiet=True), number, "solve", stopping)
