"""A process that asks the teacher about every question of a store, to be killed by test_ask.py."""

import os
import sys
from pathlib import Path

from loop.config.teacher import TeacherConfig
from loop.teaching.ask_live import Asker, ask
from loop.teaching.setup import teacher_settings
from loop.teaching.tasks import Task
from loop.teaching.templates import template
from loop.terminal.console import Console
from policies.teacher.client import Teacher
from store import open_store
from store.questions import find_questions


def main(run_dir: str, url: str) -> None:
    """Ask with 200 requests at once; prints how many answers this process got."""
    os.environ["OPENAI_API_KEY"] = "sk-loopback"
    store = open_store(Path(run_dir))
    config = TeacherConfig(base_url=url, model="m", concurrency=200, prices={})
    solve = template("solve")
    tasks = [Task(each, solve, solve.fill(question=each.text)) for each in find_questions(store, "1 ORDER BY id")]
    teacher = Teacher(teacher_settings(config, url))
    asker = Asker(store, teacher, config, Console(quiet=True), 1, "solve", lambda: False)
    print(sum(len(calls) for calls in ask(asker, tasks)))


if __name__ == "__main__":
    main(*sys.argv[1:])
