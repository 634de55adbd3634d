"""The longest sequence of a run: its prompt's tokens, its images' patches, and the answer's tokens."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from loop.config.schema import Config
from policies.encoding import Encoder, Prompt
from policies.image_cache import PIXEL_BYTES

Sizes = tuple[tuple[int, int], ...]
"""(width, height) in pixels of each image of a question."""

LONGEST_QUESTION = "the longest question"


@dataclass(frozen=True)
class Questions:
    """The longest texts among a run's questions, all combinations of image sizes, and the amount of images."""

    texts: Sequence[str]
    sizes: Collection[Sizes] = ()
    images: int = 0
    pixels: int = 0


@dataclass(frozen=True)
class Longest:
    """Tokens of the longest prompt and of the longest answer, and the patches of the prompt's images.

    `known_by` says where the prompt's length comes from. `images` is the number of different ones, and
    `pixel_bytes` their decoded size.
    """

    prompt: int
    answer: int
    patches: int
    known_by: str
    images: int = 0
    pixel_bytes: int = 0

    @property
    def tokens(self) -> int:
        """Prompt and answer together."""
        return self.prompt + self.answer


def longest_of_questions(config: Config, encoder: Encoder, questions: Questions, patch_values: int) -> Longest:
    """The longest of these prompts with the most image tokens of these sizes: together a bound for all."""
    images = max(questions.sizes, key=encoder.image_tokens, default=())
    style = config.sampling.style
    prompts = (Prompt(config.prompts.lay_out(style, text), ("",) * len(images)) for text in questions.texts)
    tokens = max((len(encoder.prompt_ids(prompt)) for prompt in prompts), default=0)
    return Longest(
        prompt=tokens + encoder.image_tokens(images),
        answer=config.sampling.max_tokens,
        patches=_patches(encoder, images, patch_values),
        known_by=LONGEST_QUESTION,
        images=questions.images,
        pixel_bytes=questions.pixels * PIXEL_BYTES,
    )


def longest_of_context(config: Config, encoder: Encoder) -> Longest | None:
    """The longest sequence that the sampler takes, if questions are unknown; None if that is also unknown."""
    room = config.engine.max_model_len or encoder.context_length
    if room is None:
        return None
    answer = config.sampling.max_tokens
    known_by = "engine.max_model_len" if config.engine.max_model_len else "the model's context"
    return Longest(max(1, room - answer), answer, 0, known_by)


def _patches(encoder: Encoder, sizes: Sizes, patch_values: int) -> int:
    if not sizes or not patch_values:
        return 0
    from PIL import Image

    processor: Any = encoder.processor.image_processor
    features = processor(images=[[Image.new("RGB", size) for size in sizes]], return_tensors="pt")
    return int(features["pixel_values"].numel()) // patch_values
