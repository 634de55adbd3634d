"""A process that asks the teacher about every question of a store, to be killed by `test_ask_live`."""

import os
import sys
from pathlib import Path

from loop.config.teacher import TeacherConfig
from loop.teaching.ask_live import ask_live
from loop.teaching.setup import teacher_settings
from loop.teaching.teacher_session import TeacherSession
from loop.terminal.console import Console
from policies.teacher.client import Teacher
from store import open_store
from tests.support.teacher_sessions import tasks_of


def main(run_dir: str, url: str) -> None:
    """Ask with 200 requests at once; prints how many answers this process got."""
    os.environ["OPENAI_API_KEY"] = "sk-loopback"
    store = open_store(Path(run_dir))
    config = TeacherConfig(base_url=url, model="m", concurrency=200, prices={})
    teacher = Teacher(teacher_settings(config, url))
    session = TeacherSession(store, teacher, config, Console(quiet=True), 1, "solve", lambda: False)
    print(sum(len(calls) for calls in ask_live(session, tasks_of(store))))


if __name__ == "__main__":
    main(*sys.argv[1:])
