"""`choice`: the option that is named, by letter, by text or by index; the letter decides.

As the multiple-choice data sets AI2D, ScienceQA and A-OKVQA are scored: the option's letter, also its text.
"""

import re
from collections.abc import Sequence

from judges.exact import fold
from judges.memo import remember_short

LETTER = re.compile(
    r"(?i:option|choice|answer)?\s{0,4}([(\[]?)([A-Za-z])\s{0,2}(?:$|[)\]]|[.:](?=$|\s|[A-Z][a-z])|[-–—]\s)"
)
ANOTHER = re.compile(r"\s{0,4}(?:,|/|&|\+|and\b|or\b)\s{0,4}(?:option\s)?[(\[]?[A-Za-z](?=$|[).:\],/&]|\s(?:and|or)\b)")
# "A cat" and "I see" name no option.
LONE_CAPITAL = re.compile(r"(?<![\w'])([A-Z])(?![\w'])(?<!A(?= (?!or\b|and\b)[a-z]))(?<!I(?= [a-z]))")
NOT_WORD = re.compile(r"[^\w\s]")
MARKDOWN = str.maketrans("", "", "*`")
DECORATION = "_\"' \t\n$"


def choice(answer: str, accepted: Sequence[str], *, choices: Sequence[str] = ()) -> float:
    """1.0 if answer and an accepted answer name the same option, else 0.0.

    An option is named by its letter (`B`, `(B)`, `B.`, `B) cat`, `option b`, `**B**`), by its text
    (folded as `exact` does), or by its index, counted from 0 as the data sets do, where no option's
    text is that number. In `B) cat` the letter decides, whatever option B is. In `A cat` the A is an
    article; `A or B` names nothing. Without `choices`, letters are compared with letters and texts with texts.
    """
    choices = tuple(choices)
    named = option(answer, choices)
    return float(any(named == option(each, choices) for each in accepted))


@remember_short
def option(answer: str, choices: tuple[str, ...]) -> int | str:
    """The option's index, or the folded text where it is no option."""
    folded = fold(answer)
    texts = [fold(each) for each in choices]
    letter, _ = letter_and_rest(answer)
    if letter is not None and (not choices or letter < len(choices)):
        return letter
    if folded in texts:
        return texts.index(folded)
    if folded.isascii() and folded.isdigit() and len(folded) < 4 and int(folded) < len(choices):
        return int(folded)
    return folded


def letter_and_rest(answer: str) -> tuple[int | None, str]:
    """The index of the letter that stands first (A is 0) and what is written after it."""
    answer = answer[:1000].translate(MARKDOWN).strip(DECORATION)
    match = LETTER.match(answer)
    if match is None or (match[1] and answer[match.end(2) :].lstrip()[:1] not in (")", "]")):
        return None, answer
    after = answer[match.end(2) :].lstrip(" )]")
    if ANOTHER.match(after):
        return None, answer
    return ord(match[2].upper()) - ord("A"), answer[match.end() :].strip(DECORATION)


@remember_short
def contradicts(answer: str, choices: tuple[str, ...]) -> bool:
    """True if the letter names one option and the text beside it names another."""
    letter, rest = letter_and_rest(answer)
    if letter is None or not rest or letter >= len(choices):
        return False
    folded = fold(rest)
    return folded != fold(choices[letter]) and any(folded == fold(each) for each in choices)


@remember_short
def options_named(answer: str, choices: tuple[str, ...]) -> int:
    """Number of different options that an answer mentions, by letter in brackets or alone, or by text."""
    answer = answer[:1000]
    letters = {ord(c) - ord("A") for c in LONE_CAPITAL.findall(answer)}
    named = {n for n in letters if n < len(choices)}
    padded = f" {fold(NOT_WORD.sub(' ', answer))} "
    named.update(n for n, each in enumerate(choices) if each.strip() and f" {fold(each)} " in padded)
    return len(named)
