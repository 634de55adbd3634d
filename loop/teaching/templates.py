"""Prompt templates for the teacher: text files in `prompts/` with placeholders.

The notes are those that LLaVA-Reasoner (arXiv 2410.16198) gives its teacher for each data set: no units
for charts, the option's letter for multiple choice, words as printed for documents, lower case.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from judges import find_judge

FOLDER = Path(__file__).parent / "prompts"
PLACEHOLDER = re.compile(r"\{(notes|question|answer|chain)\}")
CHAIN_HEADING = re.compile(r"^(?:#{1,6}[ \t]*)?(?:\*\*)?Chain:(?:\*\*)?", re.MULTILINE)
CORRECT = "correct"


@dataclass(frozen=True)
class Template:
    """A prompt with placeholders; the store keeps its text by hash."""

    name: str
    text: str

    @property
    def turn(self) -> int:
        """The attempt at a question that it asks for: 0 the first answer, 1 the correction."""
        return 1 if self.name == CORRECT else 0

    def fill(self, **values: str) -> str:
        """The prompt with all placeholders replaced in one pass: a placeholder inside a value stays text."""
        return PLACEHOLDER.sub(lambda match: values[match[1]], self.text)


@lru_cache
def template(name: str, notes: Sequence[str] = (), *, judge: str = "exact") -> Template:
    """The template of this name (a file in `prompts/`) with these notes.

    If `judge` compares two candidates, the teacher is asked to compare them.
    """
    file = f"{name}_preference" if find_judge(judge).rule.name == "preference" else name
    lines = "".join(f"{_read(f'note_{note}')}\n" for note in notes)
    return Template(name, f"{_read(file)}\n".replace("{notes}\n", f"{lines}\n"))


def chain_of(prompt: Template, answer: str) -> str:
    """The part of an answer to train on: all of it, or for a correction the text after its last `### Chain:`.

    A correction without that line gives "": its remarks on the mistake are not a chain.
    """
    if prompt.name != CORRECT:
        return answer
    headings = list(CHAIN_HEADING.finditer(answer))
    return answer[headings[-1].end() :].strip() if headings else ""


def _read(name: str) -> str:
    return (FOLDER / f"{name}.txt").read_text(encoding="utf-8").rstrip("\n")
