"""Tasks for the teacher: one per question and purpose."""

from collections.abc import Iterable
from dataclasses import dataclass

from judges import find_judge
from loop.config.teacher import TeacherConfig
from loop.teaching.templates import CORRECT, Template, template
from store.questions import Question


@dataclass(frozen=True)
class TeacherTask:
    """A question, a template, and the prompt made from both."""

    question: Question
    template: Template
    prompt: str


def rationale_tasks(config: TeacherConfig, questions: Iterable[Question]) -> list[TeacherTask]:
    """A request for a rationale for every question whose judge has a reference answer."""
    return [
        rationale_task(config, question, answer)
        for question in questions
        if (answer := find_judge(question.judge).reference_answer(question.answers, question.choices)) is not None
    ]


def rationale_task(config: TeacherConfig, question: Question, answer: str) -> TeacherTask:
    """The request for a rationale: the question with an accepted answer."""
    asked = template("rationale", config.notes_of(question.judge), judge=question.judge)
    return TeacherTask(question, asked, asked.fill(question=question.text, answer=answer))


def solve_task(config: TeacherConfig, question: Question) -> TeacherTask:
    """The request for an honest solve: the question alone."""
    asked = template("solve", config.notes_of(question.judge), judge=question.judge)
    return TeacherTask(question, asked, asked.fill(question=question.text))


def correct_task(config: TeacherConfig, question: Question, answer: str, chain: str) -> TeacherTask:
    """The request for a correction: the question, an accepted answer, and a failed chain."""
    asked = template(CORRECT, config.notes_of(question.judge), judge=question.judge)
    return TeacherTask(question, asked, asked.fill(question=question.text, answer=answer, chain=chain))
