"""MathVista: the answer in the form that the question asks for, compared as text.

lmms-eval asks GPT-4o to read the answer, unless the whole output is one of the choices or a number. Here it is read by
rule: the text after the last answer marker, else the last option in brackets, number or list of the output.
"""

import re
from collections.abc import Sequence

from rapidfuzz.distance import Levenshtein

from judges.extraction import answer_of, last_marked, undecorated

BRACKETED = re.compile(r"\(([a-zA-Z])\)")
LETTER_ALONE = re.compile(r"(?<![A-Za-z])([A-Z])(?![A-Za-z])")
NUMBER = re.compile(r"-?(?:\d[\d,]*\.?\d*|\.\d+)")
LIST = re.compile(r"\[[^\[\]]*\]")


def read_answer(output: str, question_type: str, answer_type: str, choices: Sequence[str]) -> tuple[str, bool]:
    """The answer in an output, and whether a rule read it where lmms-eval asks a model."""
    if not output or (question_type == "multi_choice" and output in choices):
        return output, False
    if answer_type in ("integer", "float"):
        try:
            return str(int(output) if answer_type == "integer" else float(output)), False
        except ValueError:
            pass
    found = last_marked(output)
    marked = None if found is None else answer_of(output, found, needs_marker=True, as_written=False)
    return _last(marked or output, question_type, answer_type, choices), True


def _last(text: str, question_type: str, answer_type: str, choices: Sequence[str]) -> str:
    if question_type == "multi_choice":
        if text in choices:
            return text
        for pattern in (BRACKETED, LETTER_ALONE):
            letters = [each for each in pattern.findall(text) if ord(each.upper()) - ord("A") < len(choices)]
            if letters:
                return str(letters[-1]).upper()
        return undecorated(text)
    pattern = LIST if answer_type == "list" else NUMBER
    found = pattern.findall(text)
    if not found:
        return undecorated(text)
    return str(found[-1]) if answer_type == "list" else str(found[-1]).replace(",", "").rstrip(".")


def normalised(
    answer: str, question_type: str, answer_type: str, choices: Sequence[str], precision: float | None
) -> str | None:
    """The answer in the question's form: the text of a choice (the nearest one if none is named), or a number."""
    if question_type == "multi_choice":
        answer = answer.strip()
        bracketed = BRACKETED.findall(answer)
        answer = bracketed[0].upper() if bracketed else answer
        letters = [chr(ord("A") + n) for n in range(len(choices))]
        if answer in letters:
            return choices[letters.index(answer)]
        return min(choices, key=lambda choice: Levenshtein.distance(answer, choice))
    if answer_type == "list":
        return answer
    try:
        if answer_type == "integer":
            return str(int(float(answer)))
        # lmms-eval rounds to a precision that the set holds as 1.0; Python's round refuses that, and no float is right.
        return str(round(float(answer), precision))  # type: ignore[arg-type]
    except (ValueError, OverflowError, TypeError):
        return None
