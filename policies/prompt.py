"""A prompt, as everybody who asks and answers passes it on."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Prompt:
    """What is asked: the text after the style's template, and the hashes of its images."""

    text: str
    images: tuple[str, ...] = ()
