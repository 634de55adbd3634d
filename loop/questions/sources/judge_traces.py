"""How the embedded teacher judges two candidates: from easy-VQA's annotations, dimension by dimension.

It is no model. It scores what a chain says it sees, whether its conclusion follows from that, and its answer; of two
images it scores colour and shape. Of one question in eight it overlooks the negation, as people and models do: such
a trace may end in the wrong verdict, and is then dropped like any teacher's.
"""

import hashlib
import re

from loop.questions.sources.easy_vqa import COLORS, NEGATION, SEEN, SHAPES, annotations

CANDIDATES = re.compile(
    r"^(?P<question>.*?)\n(?:Candidate )?1: ?(?P<first>.*?)\n(?:Candidate )?2: ?(?P<second>.*?)(?:\n|\Z)"
)
CONCLUSION = re.compile(r"\bThere is (?P<what>a|no) (?P<thing>\w+)|\bIt is (?P<fact>\w+)")
ANSWER = re.compile(r"### Answer: (\S+)\s*$")
THING = re.compile(rf"\b({'|'.join((*SHAPES, *COLORS))})\b")
GOOD, BAD = 9, 1
CARELESS = 8
"""Of one in so many questions the negation is overlooked."""

Scores = dict[str, int]


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
    chains = (found["first"], found["second"])
    scores = [_score(found["question"], chain, seen[0]) for chain in chains]
    return "\n".join([f"The image shows {_article(seen[0])}.", *_lines(scores), _verdict(scores, "answer")])


def _of_images(caption: str, shown: list[tuple[str, str]]) -> str:
    wanted = set(THING.findall(caption))
    scores = [{"color": _points(color in wanted), "shape": _points(shape in wanted)} for shape, color in shown]
    saw = [f"{number} shows {_article(each)}." for number, each in enumerate(shown, 1)]
    return "\n".join([*saw, *_lines(scores), _verdict(scores, "shape")])


def _score(question: str, chain: str, shown: tuple[str, str]) -> Scores:
    """Scores of a chain: of what it sees, what it concludes from that, and what it answers."""
    seen, answer = SEEN.search(chain), ANSWER.search(chain)
    saw = (seen[2], seen[1]) if seen else None
    return {
        "image": _points(saw == shown),
        "step": _points(saw is not None and _follows(question, chain, saw)),
        "answer": _points(answer is not None and answer[1].casefold() == _right_answer(question, shown)),
    }


def _follows(question: str, chain: str, saw: tuple[str, str]) -> bool:
    """Whether the conclusion is what the chain's own words about the image lead to."""
    concluded, asked = CONCLUSION.search(chain), THING.search(question.casefold())
    if concluded is None:
        return False
    if concluded["fact"] is not None:
        return concluded["fact"] in saw
    return asked is not None and concluded["thing"] == asked[1] and (concluded["what"] == "a") == (asked[1] in saw)


def _right_answer(question: str, shown: tuple[str, str]) -> str:
    asked = question.casefold()
    if asked.startswith("what"):
        return shown[1] if "color" in asked else shown[0]
    thing = THING.search(asked)
    exists = thing is not None and thing[1] in shown
    careless = hashlib.sha256(question.encode()).digest()[0] % CARELESS == 0
    return "yes" if exists != (NEGATION.search(asked) is not None and not careless) else "no"


def _lines(scores: list[Scores]) -> list[str]:
    return [
        f"{number}: {', '.join(f'{name} {points}' for name, points in each.items())} = {sum(each.values())}"
        for number, each in enumerate(scores, 1)
    ]


def _verdict(scores: list[Scores], decides: str) -> str:
    """The higher sum; of equal sums the higher score in one dimension, else the first."""
    first, second = ((sum(each.values()), each[decides]) for each in scores)
    return f"<answer>{2 if second > first else 1}</answer>"


def _points(good: bool) -> int:
    return GOOD if good else BAD


def _article(shown: tuple[str, str]) -> str:
    return f"a {shown[1]} {shown[0]}"
