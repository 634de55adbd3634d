"""Generated scenes: one coloured shape on a pale ground, with captions and short answers.

The base model sees only these. They share a vocabulary of shapes and colours with easy-VQA,
but no image: position, size, ground and colour shade are drawn at random here.
"""

import random
from dataclasses import dataclass

from PIL import Image, ImageDraw

SIDE = 64
"""Width and height of a scene, in pixels."""

COLORS: dict[str, tuple[int, int, int]] = {
    "red": (255, 0, 0),
    "green": (0, 255, 0),
    "blue": (0, 0, 255),
    "yellow": (255, 255, 0),
    "teal": (0, 128, 128),
    "gray": (128, 128, 128),
    "black": (0, 0, 0),
    "brown": (165, 42, 42),
}
SHAPES = ("circle", "rectangle", "triangle")
SUPERSAMPLE = 4
SHADE_JITTER = 12


@dataclass(frozen=True)
class Scene:
    """One image and what it shows."""

    image: Image.Image
    shape: str
    color: str


def draw_scene(rng: random.Random) -> Scene:
    """Draw one scene; equal generator states give equal scenes."""
    shape, color = rng.choice(SHAPES), rng.choice(list(COLORS))
    ground = tuple(rng.randint(224, 255) for _ in range(3))
    shade = tuple(min(255, max(0, c + rng.randint(-SHADE_JITTER, SHADE_JITTER))) for c in COLORS[color])
    large = SIDE * SUPERSAMPLE
    canvas = Image.new("RGB", (large, large), ground)
    _draw_shape(ImageDraw.Draw(canvas), rng, shape, shade, large)
    return Scene(canvas.resize((SIDE, SIDE), Image.Resampling.BOX), shape, color)


def _draw_shape(draw: ImageDraw.ImageDraw, rng: random.Random, shape: str, shade: tuple[int, ...], side: int) -> None:
    width, height = (rng.uniform(0.13, 0.52) * side for _ in range(2))
    if shape == "circle":
        height = width
    if shape == "triangle":
        height = width * rng.uniform(0.8, 1.0)
    left, top = rng.uniform(0, side - width), rng.uniform(0, side - height)
    box = (left, top, left + width, top + height)
    if shape == "circle":
        draw.ellipse(box, fill=shade)
    elif shape == "rectangle":
        draw.rectangle(box, fill=shade)
    else:
        draw.polygon([(left, box[3]), (box[2], box[3]), (left + width / 2, top)], fill=shade)


def write_item(rng: random.Random, scene: Scene) -> tuple[str, str]:
    """A request about the scene and its answer: a caption half of the time, else a short answer.

    No item asks for reasons and none negates, so nothing here teaches to reason in steps.
    """
    if rng.random() < 0.5:
        return rng.choice(CAPTION_REQUESTS), f"The image shows a {scene.color} {scene.shape}."
    kind = rng.choice(("color", "shape", "check"))
    if kind == "color":
        return rng.choice(COLOR_REQUESTS), scene.color
    if kind == "shape":
        return rng.choice(SHAPE_REQUESTS), scene.shape
    truth = rng.random() < 0.5
    if rng.random() < 0.5:
        named = scene.color if truth else rng.choice([c for c in COLORS if c != scene.color])
        return rng.choice(CHECK_REQUESTS).format(f"{named} thing"), "yes" if truth else "no"
    named = scene.shape if truth else rng.choice([s for s in SHAPES if s != scene.shape])
    return rng.choice(CHECK_REQUESTS).format(named), "yes" if truth else "no"


def write_reading_item(rng: random.Random) -> tuple[str, str]:
    """Draw a request to repeat some words, and its answer; it teaches a model to copy from its prompt.

    Half of the time the words are drawn at random, else they name a thing among others as a short
    phrase would. Nothing is asked of them, so this teaches to read, and not to answer.
    """
    if rng.random() < 0.5:
        words = " ".join(rng.choice(WORDS) for _ in range(rng.randint(2, 8)))
    else:
        words = rng.choice(PHRASES).format(rng.choice(THINGS))
    return rng.choice(REPEAT_REQUESTS).format(words), words


def write_telling_item(rng: random.Random, scene: Scene) -> tuple[str, str]:
    """Draw a question whether a named thing is in the scene, and the sentence that answers; half of them are yes."""
    present = [t for t in THINGS if {*t.split()} <= {scene.color, scene.shape, *NOUNS}]
    truth = rng.random() < 0.5
    named = rng.choice(present if truth else [t for t in THINGS if t not in present])
    return rng.choice(TELL_REQUESTS).format(named), f"There is {'a' if truth else 'no'} {named}."


def write_answering_item(rng: random.Random, scene: Scene) -> tuple[str, str]:
    """A request for a short answer in many layouts, so that a new line before it is not taken for one to repeat."""
    while True:
        request, answer = write_item(rng, scene)
        if request not in CAPTION_REQUESTS:
            break
    question = request.removesuffix(SHORT).strip()
    return f"{question}{rng.choice((' ', NEW_LINE))}{SHORT}", answer


def write_describing_item(rng: random.Random, scene: Scene) -> tuple[str, str]:
    """A caption, then whether a named thing is in the scene: the caption must not be mistaken for what was asked."""
    request, told = write_telling_item(rng, scene)
    return f"{rng.choice(CAPTION_REQUESTS)} {request}", f"The image shows a {scene.color} {scene.shape}. {told}"


SHORT, NEW_LINE = "Give a short answer.", "\n"
NOUNS = ("shape", "thing")
THINGS = (*SHAPES, *(f"{color} {noun}" for color in COLORS for noun in (*NOUNS, *SHAPES)))
WORDS = (
    *COLORS,
    *SHAPES,
    *("a", "an", "the", "is", "it", "in", "of", "no", "not", "there", "this", "that", "image", "shape", "thing"),
    *("color", "present", "contain", "does", "what", "see", "one", "two", "three", "and", "or", "yes"),
)
PHRASES = (
    *("a {}", "no {}", "not a {}", "the {}", "is there a {}", "is a {} there", "is no {} present", "with a {} in it"),
    *("if there is a {}", "if there is no {}", "there is a {}", "there is no {}", "the image of a {}", "one {} or two"),
)
REPEAT_REQUESTS = ("Repeat: {}", "Say again: {}", "{}\nRepeat what is said.", "{}\nWrite that again.")
TELL_REQUESTS = ("Is a {} there? Tell me.", "Look for a {}.", "Tell me if you see a {}.", "A {}?", "Find a {} in it.")
CAPTION_REQUESTS = ("Describe the image.", "What do you see?", "Write a caption.")
COLOR_REQUESTS = ("Name the color.", "What color is it? Give a short answer.")
SHAPE_REQUESTS = ("Name the shape.", "What shape is it? Give a short answer.")
CHECK_REQUESTS = ("Do you see a {}? Give a short answer.", "Is this a {}? Give a short answer.")
