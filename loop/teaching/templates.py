"""What the teacher is asked: readable text files in `prompts/`, filled in one pass.

The notes are those that LLaVA-Reasoner (arXiv 2410.16198) gives its teacher a data set: no units
for charts, the option's letter for multiple choice, words as printed for documents, lower case.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

FOLDER = Path(__file__).parent / "prompts"
PLACE = re.compile(r"\{(notes|question|answer|chain)\}")
CHAIN = re.compile(r"^(?:#{1,6}[ \t]*)?(?:\*\*)?Chain:(?:\*\*)?", re.MULTILINE)
CORRECT = "correct"


@dataclass(frozen=True)
class Template:
    """A prompt before a question is filled in; its text is what the store keeps by hash."""

    name: str
    text: str

    @property
    def turn(self) -> int:
        """Which of the teacher's attempts at a question it asks for: 0 the first, 1 the correction."""
        return 1 if self.name == CORRECT else 0

    def fill(self, **values: str) -> str:
        """The prompt with its places filled, all at once: a place spelled out in a value stays text."""
        return PLACE.sub(lambda match: values[match[1]], self.text)


@lru_cache
def template(name: str, notes: Sequence[str] = ()) -> Template:
    """The prompt of this name with these notes in it."""
    lines = "".join(f"{_read(f'note_{note}')}\n" for note in notes)
    return Template(name, f"{_read(name)}\n".replace("{notes}\n", f"{lines}\n"))


def chain_of(asked: Template, answer: str) -> str:
    """The part of an answer to train on: the whole, or of a correction what follows its last `### Chain:`.

    A correction without that line gives "": its talk of the student's mistake is no chain.
    """
    if asked.name != CORRECT:
        return answer
    heads = list(CHAIN.finditer(answer))
    return answer[heads[-1].end() :].strip() if heads else ""


def _read(name: str) -> str:
    return (FOLDER / f"{name}.txt").read_text(encoding="utf-8").rstrip("\n")
