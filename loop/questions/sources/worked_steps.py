"""Short worked steps for tasks of reasoning-gym: what the embedded teacher writes about them.

One function a task, from the question's text to (steps, answer), or None where the text is not the
task's. Registered in `WORKED`. The steps are small, so that a model of 135M parameters can take each
of them: sums go by one decimal place at a time, and nothing is left out silently.
"""

import re
from collections.abc import Callable

Worked = tuple[str, str]
"""(steps, answer)."""

TERM = re.compile(r"([+-]?)\s*(\d+)")
COUNTED = re.compile(r"(\d+) ([a-z ]+?)(?:,|\?)")
LETTER = re.compile(r'the letter "(.)" appear in the text: "([^"]*)"')
BACKWARD = re.compile(r"Spell this word backward \(.*?\): (\w+)")
WORDS = re.compile(r"Reverse this list of words: (.+)")
FILTERED = re.compile(r"(Keep|Remove) all numbers (larger|smaller) than (\S+) in this list: \[(.+)\]")
PRODUCT = re.compile(r"(\d+) \* (\d+)")


def chain_sum(question: str) -> Worked | None:
    """One operation after the other, from the left."""
    match = re.search(r"problem: ([\d+\- ]+) =", question)
    if match is None:
        return None
    (_, first), *rest = TERM.findall(match[1])
    value, steps = int(first), []
    for sign, number in rest:
        steps += by_places(value, int(sign + number))
        value += int(sign + number)
    return " ".join(steps), str(value)


def by_places(value: int, change: int) -> list[str]:
    """`value + change` in steps of one decimal place each, the highest first: 29 + 39 is 29 + 30, then 59 + 9."""
    sign, digits = ("-" if change < 0 else "+"), str(abs(change))
    parts = [digit + "0" * (len(digits) - place) for place, digit in enumerate(digits, 1) if digit != "0"]
    steps = []
    for part in parts or ["0"]:
        result = value + int(sign + part)
        steps.append(f"{value} {sign} {part} = {result}.")
        value = result
    return steps


def leg_counting(question: str) -> Worked | None:
    """The legs of each animal, then their running sum."""
    from reasoning_gym.arithmetic.leg_counting import ANIMALS

    _, asked, animals = question.partition("if you have ")
    if not asked:
        return None
    steps, legs = [], []
    for count, name in COUNTED.findall(animals):
        each = ANIMALS.get(name, ANIMALS.get(name.removesuffix("s")))
        if each is None:
            return None
        legs.append(int(count) * each)
        steps.append(f"{count} {name}: {count} * {each} = {legs[-1]}.")
    total = legs[0]
    for more in legs[1:]:
        steps += by_places(total, more)
        total += more
    return " ".join(steps), str(total)


def letter_counting(question: str) -> Worked | None:
    """Every word with how often it has the letter, then the sum of those that do."""
    match = LETTER.search(question)
    if match is None:
        return None
    letter, words = match[1], match[2].split()
    counts = [(word, word.lower().count(letter)) for word in words]
    listed = ", ".join(f"{word} {count}" for word, count in counts)
    total = sum(count for _, count in counts)
    summed = " + ".join(str(count) for _, count in counts if count) or "0"
    return f"{letter} in each word: {listed}. {summed} = {total}.", str(total)


def spell_backward(question: str) -> Worked | None:
    """The letters one by one, then from the last to the first."""
    match = BACKWARD.search(question)
    if match is None:
        return None
    word = match[1]
    return f"Letters: {' '.join(word)}. Backward: {' '.join(reversed(word))}.", word[::-1]


def word_sequence_reversal(question: str) -> Worked | None:
    """The words numbered, then from the last number to the first."""
    match = WORDS.search(question)
    if match is None:
        return None
    words = match[1].strip().split(", ")
    numbered = [f"{place} {word}" for place, word in enumerate(words, 1)]
    return f"{', '.join(numbered)}. Backward: {', '.join(reversed(numbered))}.", ", ".join(reversed(words))


def number_filtering(question: str) -> Worked | None:
    """Each number beside the limit, and what follows for it."""
    match = FILTERED.search(question)
    if match is None:
        return None
    keeps, named, limit = match[1] == "Keep", match[2], float(match[3])
    steps, kept = [], []
    for number in match[4].replace("'", "").split(", "):
        value = float(number)
        found = "larger" if value > limit else "smaller" if value < limit else "equal"
        stays = (found == named) == keeps
        steps.append(f"{number} {found}, {'keep' if stays else 'remove'}.")
        kept += [number] if stays else []
    return " ".join(steps), str(kept)


def products(question: str) -> Worked | None:
    """The first factor taken apart into its digits' values, multiplied one by one."""
    match = PRODUCT.search(question)
    if match is None:
        return None
    left, right = match[1], int(match[2])
    parts = [int(digit) * 10 ** (len(left) - place) for place, digit in enumerate(left, 1) if digit != "0"]
    steps = [f"{part} * {right} = {part * right}." for part in parts]
    total = int(left) * right
    if len(parts) > 1:
        steps.append(f"{' + '.join(str(part * right) for part in parts)} = {total}.")
    return " ".join(steps), str(total)


WORKED: dict[str, Callable[[str], Worked | None]] = {
    "chain_sum": chain_sum,
    "leg_counting": leg_counting,
    "letter_counting": letter_counting,
    "number_filtering": number_filtering,
    "products": products,
    "spell_backward": spell_backward,
    "word_sequence_reversal": word_sequence_reversal,
}
"""To add a task: one function, one line here."""
