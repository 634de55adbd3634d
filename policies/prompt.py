"""The prompt, as passed between encoder, sampler and learner."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Prompt:
    """A question as the model gets it: the text in the style's template, and the hashes of its images."""

    text: str
    images: tuple[str, ...] = ()


@dataclass(frozen=True)
class ChatSettings:
    """The system prompt and the options of a model's chat template, the same for every prompt of a run.

    `options` are names and values that the template asks for, for example `("enable_thinking", False)`.
    """

    system_prompt: str | None = None
    options: tuple[tuple[str, bool | int | float | str], ...] = ()


NO_SETTINGS = ChatSettings()
"""The template as the model brings it."""
