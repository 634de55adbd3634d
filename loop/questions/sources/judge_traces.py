"""How the embedded teacher judges two candidates: from easy-VQA's annotations, dimension by dimension.

It is no model. It answers the question itself, as RM-R1 (arXiv 2505.02387) has its judge do. Then what each chain
says it sees, whether its conclusion follows, and its answer get scores; of two images colour and shape do. Of
one question in eight it overlooks the negation, as people and models do: such a trace may end in the wrong verdict, and
is then dropped like any teacher's.
"""

import hashlib
import re
from collections.abc import Sequence

from loop.questions.sources.easy_vqa import COLORS, NEGATION, SEEN, SHAPES, annotations, write_rationale

CANDIDATES = re.compile(
    r"^(?P<question>.*?)\n(?:Candidate )?1: ?(?P<first>.*?)(?: \(1\))?"
    r"\n(?:Candidate )?2: ?(?P<second>.*?)(?: \(2\))?(?:\n|\Z)"
)
CONCLUSION = re.compile(r"\bThere is (?P<what>a|no) (?P<thing>\w+)|\bIt is (?P<fact>\w+)")
ANSWER = re.compile(r"### Answer: (\S+)\s*$")
THING = re.compile(rf"\b({'|'.join((*SHAPES, *COLORS))})\b")
GOOD, BAD = 9, 1
NONE = "none"
CARELESS = 8
"""Of one in so many questions the negation is overlooked."""

Scores = dict[str, bool]
"""What is said of a candidate in each dimension -> whether that speaks for it."""


def write_judgement(question: str, answer: str | None, images: list[str]) -> str | None:
    """A trace with the verdict in its tag; None for texts or images that it does not know.

    `answer` is the verdict that is wanted, or None; it does not look at it: a wrong trace shows that it is fallible.
    """
    found = CANDIDATES.match(question)
    shown = [annotations().get(image) for image in images]
    if found is None or not shown or None in shown:
        return None
    seen = [each for each in shown if each is not None]
    if len(seen) == 2:
        return _of_images(found["question"], seen)
    asked = found["question"]
    right = _right_answer(asked, seen[0])
    own = write_rationale(asked, right, images)
    if own is None:
        return None
    scores = [_of_chain(asked, chain, seen[0], right) for chain in (found["first"], found["second"])]
    return "\n".join([own.replace("\n### Answer:", " So:"), *_lines(scores), _verdict(scores)])


def _of_images(caption: str, shown: list[tuple[str, str]]) -> str:
    """Of each image what it shows, then whether it has the colour, and whether the shape of the caption."""
    wanted = THING.findall(caption)
    color, shape = (next(word for word in wanted if word in words) for words in (COLORS, SHAPES))
    scores = [
        {
            f"There is {_exists(color in each)} {color} shape": color in each,
            f"{_exists(shape in each)} {shape}": shape in each,
        }
        for each in shown
    ]
    return "\n".join([*_lines(scores, [f"The image shows {_article(each)}. " for each in shown]), _verdict(scores)])


def _of_chain(question: str, chain: str, shown: tuple[str, str], right: str) -> Scores:
    """Of a chain whether there is what it says it sees, whether it concludes what follows, and what it answers."""
    seen, answer = SEEN.search(chain), ANSWER.search(chain)
    saw = (seen[2], seen[1]) if seen else None
    concluded, follows = _conclusion(question, chain, saw)
    answered = NONE if answer is None else answer[1].casefold()
    return {
        f"There is {_exists(saw == shown)} {'image' if saw is None else f'{saw[1]} {saw[0]}'}": saw == shown,
        f"step {concluded} for {follows}": concluded == follows,
        f"answer {answered} for {right}": answered == right,
    }


def _conclusion(question: str, chain: str, saw: tuple[str, str] | None) -> tuple[str, str]:
    """The conclusion of a chain, and the one that its own words about the image lead to."""
    concluded, asked = CONCLUSION.search(chain), THING.search(question.casefold())
    if saw is None:
        return NONE, "image"
    if question.casefold().startswith("what"):
        return (concluded and concluded["fact"]) or NONE, saw[1] if "color" in question.casefold() else saw[0]
    follows = _exists(asked is not None and asked[1] in saw)
    same = concluded is not None and asked is not None and concluded["thing"] == asked[1]
    return (concluded["what"] if concluded is not None and same else NONE), follows


def _right_answer(question: str, shown: tuple[str, str]) -> str:
    asked = question.casefold()
    if asked.startswith("what"):
        return shown[1] if "color" in asked else shown[0]
    thing = THING.search(asked)
    exists = thing is not None and thing[1] in shown
    careless = hashlib.sha256(question.encode()).digest()[0] % CARELESS == 0
    return "yes" if exists != (NEGATION.search(asked) is not None and not careless) else "no"


def _lines(scores: list[Scores], saw: Sequence[str] = ("", "")) -> list[str]:
    """A line a candidate: what is seen of it, each dimension with its points, and their sum."""
    return [
        f"{number}: {seen}{', '.join(f'{said} {_points(good)}' for said, good in each.items())} = {_sum(each)}"
        for number, (seen, each) in enumerate(zip(saw, scores, strict=True), 1)
    ]


def _verdict(scores: list[Scores]) -> str:
    """The higher sum; of equal sums the one that is good in the last dimension, else the first."""
    first, second = ((_sum(each), list(each.values())[-1]) for each in scores)
    return f"<answer>{2 if second > first else 1}</answer>"


def _sum(scores: Scores) -> int:
    return sum(_points(good) for good in scores.values())


def _points(good: bool) -> int:
    return GOOD if good else BAD


def _exists(there: bool) -> str:
    return "a" if there else "no"


def _article(shown: tuple[str, str]) -> str:
    return f"a {shown[1]} {shown[0]}"
