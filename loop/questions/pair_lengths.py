"""Whether imported pairs fit the model; its encoder is loaded only for pairs that are long enough to ask."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import TYPE_CHECKING

from loop.config.schema import Config
from loop.errors import InputError
from policies.prompt import Prompt
from store.image_decoding import read_image_size

if TYPE_CHECKING:
    from policies.encoding import Encoder


FREE_BYTES = 256
"""A pair of so few bytes fits every model: no encoder is loaded for it."""


class PairLengths:
    """Whether pairs of other origin fit the model, which reads prompt and answer at once when it is trained on them."""

    def __init__(self, config: Config, make_encoder: Callable[[], Encoder]) -> None:
        self._prompts, self._model = config.prompts, config.policy.model
        self._encoder = cache(make_encoder)

    def require_fit(self, text: str, style: str, images: Sequence[bytes], sides: Sequence[str], where: str) -> None:
        """Raise InputError, naming the row, where the question with its longer side has more tokens than that."""
        if len(text.encode()) + max(len(side.encode()) for side in sides) <= FREE_BYTES:
            return
        encoder = self._encoder()
        most = encoder.context_length
        if most is None:
            return
        try:
            of_images = encoder.image_tokens(tuple(read_image_size(image, where) for image in images)) if images else 0
        except ValueError as error:
            raise InputError(f"{where}: the model's processor does not take its images ({error})") from error
        prompt = Prompt(self._prompts.lay_out(style, text), ("",) * len(images))
        tokens = of_images + len(encoder.prompt_ids(prompt)) + max(len(encoder.completion_ids(side)) for side in sides)
        if tokens > most:
            raise InputError(
                f"{where}: {tokens:,} tokens of prompt and answer are more than the {most:,} that {self._model} takes;"
                " shorten the row, or leave it out"
            )
