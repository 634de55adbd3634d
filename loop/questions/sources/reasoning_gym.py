"""reasoning-gym: procedurally generated questions with a scoring function for each task.

Every task of `questions.tasks` gives the number of different questions that it names. They are held out by
a hash of their text, so the splits are disjoint and stay the same when a task is made larger.
"""

import random
from collections.abc import Iterator, Sequence
from typing import Any

from judges import JudgeSpecError, find_judge
from loop.config.questions import QuestionsConfig
from loop.errors import InputError
from loop.questions.sources.worked_steps import WORKED
from loop.questions.splits import drawn_split
from loop.reporting import Reporter
from store.new_questions import NewQuestion

SOURCE = "reasoning_gym"
SHUFFLE_SEED = 20161
DRAWS = 20
"""Draws for each question wanted; a task that has not given enough different ones by then cannot."""


def read_questions(config: QuestionsConfig, reporter: Reporter | None = None) -> Iterator[NewQuestion]:
    """Different questions of every task, in a fixed random order; InputError names a task that cannot be had."""
    rows = [row for task, options in config.tasks.items() for row in _task_rows(task, options.model_dump(), config)]
    random.Random(SHUFFLE_SEED).shuffle(rows)
    yield from rows


def _task_rows(task: str, options: dict[str, Any], config: QuestionsConfig) -> list[NewQuestion]:
    where = f"questions.tasks.{task}"
    try:
        judge = find_judge(f"{SOURCE}(task = {task!r})").name
    except JudgeSpecError as error:
        raise InputError(f"{where}: {error}") from error
    # Not at the top: the package is an extra's, and importing it takes a second.
    from reasoning_gym import create_dataset

    wanted = options.pop("questions")
    try:
        drawn = create_dataset(task, **{"seed": 0, **options}, size=DRAWS * wanted)
    except (TypeError, AssertionError, ValueError) as error:
        raise InputError(f"{where}: {error}") from error
    rows: dict[str, NewQuestion] = {}
    for n in range(DRAWS * wanted):
        entry = drawn[n]
        text = entry["question"].strip()
        if text not in rows:
            rows[text] = NewQuestion(
                text=text,
                answers=[entry["answer"]],
                images=[],
                split=drawn_split(("text", text), config),
                split_from="draw",
                source=SOURCE,
                judge=judge,
                kind=task,
                external_id=f"{task}-{n}",
                where=f"{where}, question {n}",
            )
            if len(rows) == wanted:
                return list(rows.values())
    raise InputError(f"{where}: only {len(rows)} different questions of {wanted}; widen its options, or ask for fewer")


def write_rationale(question: str, answer: str | None, images: Sequence[str]) -> str | None:
    """Worked steps that end in the accepted answer; None where they lead elsewhere, or the task is not known."""
    for work in WORKED.values():
        worked = work(question)
        if worked is not None:
            steps, found = worked
            return f"{steps}\n### Answer: {found}" if answer in (None, found) else None
    return None
