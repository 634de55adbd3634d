"""Plain sentences that the base model's tokenizer is trained on.

Ordinary words of short questions, descriptions and reasons, so that they cost one token each.
"""

from base_model.scenes import (
    CAPTION_REQUESTS,
    CHECK_REQUESTS,
    COLOR_REQUESTS,
    COLORS,
    SHAPE_REQUESTS,
    SHAPES,
)

FRAMES = (
    "The image shows a {color} {shape}.",
    "The picture contains one {color} {shape} and nothing else.",
    "The question asks whether a {shape} is present. It asks whether a {color} shape is absent.",
    "The question asks for the color of the shape. The question asks which shape it is.",
    "There is a {shape}. There is no {color} shape. There is not a {shape} in it.",
    "Is there a {color} shape in the image? Is a {shape} present? Is no {shape} present?",
    "Is there not a {color} shape? Does the image contain a {shape}? Does the image not contain it?",
    "What color is the {shape}? What is the color of the shape? What is the {color} shape?",
    "What shape is in the image? What shape does the image contain?",
    "The shape is a {shape}, not a {shape}. The color is {color}, not {color}.",
    "So the answer is yes. So the answer is no. So the answer is {color}. So it is a {shape}.",
    "Think step by step, then end with a line.\n### Answer: {color}",
    "Reason first, then give a short answer.\n### Answer: {shape}",
    "Answer with a word or a number.\n### Answer: yes",
    "Give a short answer.\n### Answer: no",
    "Yes, I see it. No, it is not what we want. Both are true, because they match.",
)
NUMBERS = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "plus",
    "minus",
    "times",
    "equals",
]


def tokenizer_sentences() -> list[str]:
    """Every frame with every colour and shape, the base requests, and number words."""
    filled = [f.format(color=c, shape=s) for c in COLORS for s in SHAPES for f in FRAMES]
    checks = [r.format(s) for r in CHECK_REQUESTS for s in (*SHAPES, *(f"{c} thing" for c in COLORS))]
    requests = [*CAPTION_REQUESTS, *COLOR_REQUESTS, *SHAPE_REQUESTS, *checks]
    return [*filled, *requests * 8, *(f"{n}, {n}." for n in NUMBERS)]
