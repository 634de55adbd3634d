"""The embedded teacher's judgements of two candidates, from easy-VQA's annotations, dimension by dimension.

It is no model. It answers the question itself, as RM-R1 (arXiv 2505.02387) has its judge do. Then what each chain says
it sees and what it answers get scores; of two images colour and shape do, in the words of the policy's own chains. Of
one question in eight it overlooks the negation, as people and models do: such a trace may end in the wrong verdict, and
is then dropped like any teacher's.
"""

import hashlib
import re

from loop.questions.sources.easy_vqa import COLORS, NEGATION, SEEN, SHAPES, annotations, write_rationale

FIRST, SECOND = r"(?:Candidate )?1: ?(?P<first>.*?)(?: \(1\))?", r"(?:Candidate )?2: ?(?P<second>.*?)(?: \(2\))?"
LAYOUTS = (
    re.compile(rf"^{FIRST}\n{SECOND}\n(?P<question>.*?)(?:\n|\Z)"),
    re.compile(rf"^(?P<question>.*?)\n{FIRST}\n{SECOND}(?:\n|\Z)"),
)
"""The question after or before the two candidates, each on a line of its own."""
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
    found = next((match for layout in LAYOUTS if (match := layout.match(question))), None)
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
    scores = [_of_chain(chain, seen[0], right) for chain in (found["first"], found["second"])]
    return "\n".join([own.replace("\n### Answer:", " So:"), *_lines(scores), _verdict(scores)])


def _of_images(caption: str, shown: list[tuple[str, str]]) -> str:
    """Of each image whether it has the colour, and whether the shape of the caption, in the words of a chain."""
    wanted = THING.findall(caption)
    color, shape = (next(word for word in wanted if word in words) for words in (COLORS, SHAPES))
    things = ((color, f"{color} shape"), (shape, shape))
    scores = [
        {
            f"The question asks if there is a {name}. The image shows {_article(each)}."
            f" There is {_exists(word in each)} {name}": word in each
            for word, name in things
        }
        for each in shown
    ]
    return "\n".join([*_lines(scores), _verdict(scores)])


def _of_chain(chain: str, shown: tuple[str, str], right: str) -> Scores:
    """Of a chain whether there is what it says it sees, and whether its answer is right."""
    seen, answer = SEEN.search(chain), ANSWER.search(chain)
    saw = (seen[2], seen[1]) if seen else None
    answered = NONE if answer is None else answer[1].casefold()
    return {
        f"There is {_exists(saw == shown)} {'image' if saw is None else f'{saw[1]} {saw[0]}'}": saw == shown,
        f"answer {answered} for {right}": answered == right,
    }


def _right_answer(question: str, shown: tuple[str, str]) -> str:
    asked = question.casefold()
    if asked.startswith("what"):
        return shown[1] if "color" in asked else shown[0]
    thing = THING.search(asked)
    exists = thing is not None and thing[1] in shown
    careless = hashlib.sha256(question.encode()).digest()[0] % CARELESS == 0
    return "yes" if exists != (NEGATION.search(asked) is not None and not careless) else "no"


def _lines(scores: list[Scores]) -> list[str]:
    """A line a candidate: each dimension with its points, and their sum."""
    return [
        f"{number}: {'. '.join(f'{said} {_points(good)}' for said, good in each.items())} = {_sum(each)}"
        for number, each in enumerate(scores, 1)
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
