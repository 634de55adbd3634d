"""How the embedded teacher judges two candidates: from easy-VQA's annotations, dimension by dimension.

It is no model. It answers the question itself, as RM-R1 (arXiv 2505.02387) has its judge do. Then what each chain
says it sees, whether its conclusion follows, and its answer get scores; of two images colour and shape do. Of
one question in eight it overlooks the negation, as people and models do: such a trace may end in the wrong verdict, and
is then dropped like any teacher's.
"""

import hashlib
import re

from loop.questions.sources.easy_vqa import COLORS, NEGATION, SEEN, SHAPES, annotations, write_rationale

CANDIDATES = re.compile(
    r"^(?P<question>.*?)\n(?:Candidate )?1: ?(?P<first>.*?)\n(?:Candidate )?2: ?(?P<second>.*?)(?:\n|\Z)"
)
CONCLUSION = re.compile(r"\bThere is (?P<what>a|no) (?P<thing>\w+)|\bIt is (?P<fact>\w+)")
ANSWER = re.compile(r"### Answer: (\S+)\s*$")
THING = re.compile(rf"\b({'|'.join((*SHAPES, *COLORS))})\b")
GOOD, BAD = 9, 1
NONE = "none"
CARELESS = 8
"""Of one in so many questions the negation is overlooked."""

Compared = dict[str, tuple[str, str]]
"""Dimension -> what a candidate has, and what it should have."""


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
    found_of = [_compare_chain(asked, chain, seen[0], right) for chain in (found["first"], found["second"])]
    return "\n".join([own.replace("\n### Answer:", " So:"), *_lines(found_of), _verdict(found_of, "answer")])


def _of_images(caption: str, shown: list[tuple[str, str]]) -> str:
    color, shape = (
        next((word for word in THING.findall(caption) if word in words), NONE) for words in (COLORS, SHAPES)
    )
    saw = [f"{number} shows {_article(each)}." for number, each in enumerate(shown, 1)]
    found = [{"color": (its_color, color), "shape": (its_shape, shape)} for its_shape, its_color in shown]
    return "\n".join([*saw, *_lines(found), _verdict(found, "shape")])


def _compare_chain(question: str, chain: str, shown: tuple[str, str], right: str) -> Compared:
    """What a chain says it sees, what it concludes from that, and what it answers, beside what it should."""
    seen, answer = SEEN.search(chain), ANSWER.search(chain)
    saw = (seen[2], seen[1]) if seen else None
    return {
        "image": (NONE if saw is None else f"{saw[1]} {saw[0]}", f"{shown[1]} {shown[0]}"),
        "step": _conclusion(question, chain, saw),
        "answer": (NONE if answer is None else answer[1].casefold(), right),
    }


def _conclusion(question: str, chain: str, saw: tuple[str, str] | None) -> tuple[str, str]:
    """The conclusion of a chain, and the one that its own words about the image lead to."""
    concluded, asked = CONCLUSION.search(chain), THING.search(question.casefold())
    if saw is None:
        return NONE, "image"
    if question.casefold().startswith("what"):
        right = saw[1] if "color" in question.casefold() else saw[0]
        return (concluded and concluded["fact"]) or NONE, right
    right = "a" if asked is not None and asked[1] in saw else "no"
    same = concluded is not None and asked is not None and concluded["thing"] == asked[1]
    return (concluded["what"] if concluded is not None and same else NONE), right


def _right_answer(question: str, shown: tuple[str, str]) -> str:
    asked = question.casefold()
    if asked.startswith("what"):
        return shown[1] if "color" in asked else shown[0]
    thing = THING.search(asked)
    exists = thing is not None and thing[1] in shown
    careless = hashlib.sha256(question.encode()).digest()[0] % CARELESS == 0
    return "yes" if exists != (NEGATION.search(asked) is not None and not careless) else "no"


def _lines(found: list[Compared]) -> list[str]:
    """A line a candidate: every dimension with what it has "for" what it should have, its points, and their sum."""
    lines = []
    for number, each in enumerate(found, 1):
        scores = [f"{name} {has} for {should} {_points(has == should)}" for name, (has, should) in each.items()]
        lines.append(f"{number}: {', '.join(scores)} = {_sum(each)}")
    return lines


def _verdict(found: list[Compared], decides: str) -> str:
    """The higher sum; of equal sums the one that is right in one dimension, else the first."""
    first, second = ((_sum(each), each[decides][0] == each[decides][1]) for each in found)
    return f"<answer>{2 if second > first else 1}</answer>"


def _sum(each: Compared) -> int:
    return sum(_points(has == should) for has, should in each.values())


def _points(good: bool) -> int:
    return GOOD if good else BAD


def _article(shown: tuple[str, str]) -> str:
    return f"a {shown[1]} {shown[0]}"
