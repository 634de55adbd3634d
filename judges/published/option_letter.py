"""The option's letter in a free text, as lmms-eval reads it for MMStar."""

from collections.abc import Iterator, Sequence

EDGES = (",", ".", "!", "?", ";", ":", "'", '"')
"""Stripped from both ends, one after the other and each once, so that `'.` leaves a full stop that `.'` does not."""

PHRASES = (
    *("the answer is", "answer is", "the correct answer is", "correct answer is", "the best answer is"),
    *("best answer is", "the correct option is", "correct option is", "the best option is", "best option is"),
    *("the choice is", "choice is", "the correct choice is", "correct choice is", "i choose", "i select", "i pick"),
    *("my answer is", "my choice is", "옵션", "정답은", "답은", "답:", "答案是", "答案为", "选", "答えは"),
)
ALONE_FIRST, ALONE_LAST, AFTER_PHRASE = 10, 9, 7
WRITTEN = ((6, "({})"), (5, "{}."), (4, "{}:"), (3, "{})"), (2, "{} "))
"""(weight, form) of a written letter; of several in one form the last counts."""


def option_letter(text: str, letters: Sequence[str]) -> str:
    """The letter whose form has the highest weight, the last of several; '' without any."""
    text = text.strip()
    if not text:
        return ""
    for mark in EDGES:
        text = text.strip(mark)
    places = list(_places(f" {text} ", letters))
    if not places:
        places = [(0, text.rfind(letter), letter) for letter in letters if letter in text]
    return max(places, key=lambda place: place[:2], default=(0, 0, ""))[2]


def _places(text: str, letters: Sequence[str]) -> Iterator[tuple[int, int, str]]:
    """Yield (weight of the form, position, letter) for every letter in such a form."""
    for weight, form in WRITTEN:
        for letter in letters:
            if (at := text.rfind(form.format(letter))) >= 0:
                yield weight, at, letter
    lowered = text.lower()
    for phrase in PHRASES:
        if (start := lowered.find(phrase)) >= 0:
            for letter in letters:
                if (at := text.find(letter, start + len(phrase))) >= 0:
                    yield AFTER_PHRASE, at, letter
    alone = text.strip()
    for letter in letters:
        if alone.startswith(letter) and not alone[len(letter) : len(letter) + 1].isalpha():
            yield ALONE_FIRST, 0, letter
        if alone.endswith(letter) and not alone[: -len(letter)][-1:].isalpha():
            yield ALONE_LAST, len(text) - 1, letter
