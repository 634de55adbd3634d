"""easy-VQA: real images of 64x64 with one shape each; colour, shape and yes/no questions.

The package's own test questions are the held-out split. It also annotates, through its colour and
shape questions, what every image shows; from that the embedded teacher writes its rationales.
"""

import hashlib
import random
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path

from judges import find_judge
from loop.config.questions import QuestionsConfig
from loop.reporting import Reporter
from store.new_questions import NewQuestion

SOURCE = "easy_vqa"
SHAPES = ("circle", "rectangle", "triangle")
COLORS = ("black", "blue", "brown", "gray", "green", "red", "teal", "yellow")
SHUFFLE_SEED = 20161
GATE_EVERY = 4
NEGATION = re.compile(r"\b(?:not|no)\b")
SEEN = re.compile(r"\bshows an? (\w+) (\w+)\b")


def read_questions(config: QuestionsConfig, reporter: Reporter | None = None) -> Iterator[NewQuestion]:
    """The held-out questions, then `train_limit` train questions; both in a fixed random order.

    The package's test images are shared out by their number: every fourth is for the gate to decide
    by, the others are what is reported, so no image serves both.
    """
    for split in ("test", "train"):
        texts, answers, image_ids = _questions(split)
        paths = _image_paths(split)
        order = list(range(len(texts)))
        random.Random(SHUFFLE_SEED).shuffle(order)
        if split == "train":
            order = order[: config.train_limit]
        for n in order:
            path = paths[image_ids[n]]
            yield NewQuestion(
                text=texts[n],
                answers=[answers[n]],
                images=[Path(path).read_bytes()],
                split="gate" if split == "test" and image_ids[n] % GATE_EVERY == 0 else split,
                source=SOURCE,
                judge=find_judge(config.judge).name,
                kind=question_kind(texts[n]),
                external_id=f"{split}-{n}",
                where=f"easy_vqa {split} question {n}",
            )


def write_rationale(question: str, answer: str | None, images: list[str]) -> str | None:
    """A rationale in words of what the annotations say, ending in the accepted answer.

    What is asked, what is seen, what follows: the order in which a chain should think. Without the
    answer it says what it takes the answer to be, and, no better than many a model, it overlooks
    that a question is negated; so the embedded default shows what becomes of a teacher's mistakes.
    """
    seen = annotations().get(images[0]) if len(images) == 1 else None
    if seen is None:
        return None
    shape, color = seen
    asked = question.casefold()
    if asked.startswith("what"):
        about, fact = ("color", color) if "color" in asked else ("shape", shape)
        asks, follows = f"The question asks for the {about}.", f"It is {fact}."
        believed = fact
    else:
        match = re.search(rf"\b({'|'.join(SHAPES)})\b|\b({'|'.join(COLORS)})\b", asked)
        if match is None:
            return None
        named = match[1] or f"{match[2]} shape"
        exists = match[0] in (shape, color)
        negated = answer is not None and NEGATION.search(asked) is not None
        believed = "yes" if exists else "no"
        asks = f"The question asks if there is {'no' if negated else 'a'} {named}."
        follows = f"There is {'a' if exists else 'no'} {named}."
    final = believed if answer is None else answer
    return f"{asks} The image shows a {color} {shape}. {follows}\n### Answer: {final}"


def question_kind(text: str) -> str:
    """colour, shape, yes/no, or negated yes/no."""
    asked = text.casefold()
    if asked.startswith("what"):
        return "color" if "color" in asked else "shape"
    return "negated yes/no" if NEGATION.search(asked) else "yes/no"


def is_faithful(chain: str, images: Sequence[str]) -> bool | None:
    """Whether the colour and shape that a chain says it sees are those of the image; None if nobody knows.

    A right answer can follow a wrong chain; this is the part of a chain that can be checked.
    """
    shown = annotations().get(images[0]) if len(images) == 1 else None
    if shown is None:
        return None
    seen = SEEN.search(chain)
    return seen is not None and (seen[2], seen[1]) == shown


def caption(image: str) -> str | None:
    """The annotation of the image with this digest, such as "a red circle"; None if it has none."""
    shown = annotations().get(image)
    return None if shown is None else f"a {shown[1]} {shown[0]}"


@lru_cache(maxsize=1)
def annotations() -> dict[str, tuple[str, str]]:
    """sha256 of an image file -> (shape, colour), read off the package's own answers."""
    found: dict[str, tuple[str, str]] = {}
    for split in ("train", "test"):
        facts: dict[int, dict[str, str]] = defaultdict(dict)
        for text, answer, image in zip(*_questions(split), strict=True):
            facts[image].update(_facts(text, answer))
        for image, path in _image_paths(split).items():
            if facts[image].keys() == {"shape", "color"}:
                digest = hashlib.sha256(Path(path).read_bytes()).hexdigest()
                found[digest] = (facts[image]["shape"], facts[image]["color"])
    return found


def _facts(question: str, answer: str) -> dict[str, str]:
    """The image's shape and colour, as far as a question and its answer together say them."""
    words = [answer]
    if question.startswith("what") or (answer == "yes") != bool(NEGATION.search(question)):
        words += question.rstrip("?").split()
    kinds = {**dict.fromkeys(SHAPES, "shape"), **dict.fromkeys(COLORS, "color")}
    return {kinds[word]: word for word in words if word in kinds}


def _questions(split: str) -> tuple[list[str], list[str], list[int]]:
    import easy_vqa

    read = easy_vqa.get_test_questions if split == "test" else easy_vqa.get_train_questions
    texts, answers, images = read()
    return texts, answers, images


def test_questions() -> Iterator[tuple[str, str, int, Path]]:
    """The package's own test questions as (text, answer, image number, image file), in its order."""
    paths = _image_paths("test")
    for text, answer, number in zip(*_questions("test"), strict=True):
        yield text, answer, number, Path(paths[number])


def _image_paths(split: str) -> dict[int, str]:
    import easy_vqa

    read = easy_vqa.get_test_image_paths if split == "test" else easy_vqa.get_train_image_paths
    paths: dict[int, str] = read()
    return paths
