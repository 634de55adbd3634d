"""Requests to the teacher: one task a question and purpose."""

from collections.abc import Iterable
from dataclasses import dataclass

from judges import find_judge
from loop.config.teacher import TeacherConfig
from loop.teaching.templates import CORRECT, Template, template
from store.questions import Question


@dataclass(frozen=True)
class Task:
    """One thing to ask: the question, the template and the prompt made of both."""

    question: Question
    template: Template
    prompt: str


def rationale_tasks(config: TeacherConfig, questions: Iterable[Question]) -> list[Task]:
    """A request for every question whose judge has an answer to tell."""
    return [
        rationale_task(config, question, answer)
        for question in questions
        if (answer := find_judge(question.judge).told(question.answers, question.choices)) is not None
    ]


def rationale_task(config: TeacherConfig, question: Question, answer: str) -> Task:
    """The request for a rationale: the question with an accepted answer."""
    asked = template("rationale", config.notes_of(question.judge))
    return Task(question, asked, asked.fill(question=question.text, answer=answer))


def solve_task(config: TeacherConfig, question: Question) -> Task:
    """The request for an honest solve: the question alone."""
    asked = template("solve", config.notes_of(question.judge))
    return Task(question, asked, asked.fill(question=question.text))


def correct_task(config: TeacherConfig, question: Question, answer: str, chain: str) -> Task:
    """The request for a correction: the question, an accepted answer, and a failed chain."""
    asked = template(CORRECT, config.notes_of(question.judge))
    return Task(question, asked, asked.fill(question=question.text, answer=answer, chain=chain))
