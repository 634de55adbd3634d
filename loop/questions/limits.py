"""Limits on questions: their length and the size of their images, checked before a question is stored."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import cache

from loop.config.schema import Config
from loop.errors import InputError
from policies.encoding import Encoder, Prompt
from store import Store
from store.image_decoding import read_image_size
from store.new_questions import NewQuestion, splits_of_question


def longest_sequence(config: Config, encoder: Encoder) -> int | None:
    """The most tokens of prompt and answer together that the sampler takes; None without a known limit.

    Raises InputError if engine.max_model_len is more than the model can take.
    """
    wanted, own = config.engine.max_model_len, encoder.context_length
    if wanted is not None and own is not None and wanted > own:
        raise InputError(
            f"engine.max_model_len = {wanted} is more than {config.policy.model} can take; set it to {own} or less"
        )
    return own if wanted is None else wanted


class Limits:
    """The limits of one configuration. Without an encoder lengths are not checked."""

    def __init__(self, config: Config, encoder: Encoder | None) -> None:
        self._config, self._encoder = config, encoder
        self._longest = None if encoder is None else longest_sequence(config, encoder)
        self._around = cache(self._bytes_around)

    def applied(self, questions: Iterable[NewQuestion], store: Store) -> Iterator[NewQuestion]:
        """The questions; one that is too long is marked unusable where questions.too_long is "skip".

        Raises InputError, naming the row, for any other that is too long, and for an image of too many pixels.
        Questions that the store has already are not checked again.
        """
        for question in questions:
            sizes = tuple(read_image_size(image, question.image_where) for image in question.images)
            faults = [self._too_large(sizes), self._too_long(question, sizes)]
            if not any(faults) or splits_of_question(store, question, [question.split]):
                yield question
                continue
            too_large, too_long = faults
            if too_large is not None:
                raise InputError(f"{question.where}: {too_large}; make it smaller, or raise questions.max_pixels")
            if self._config.questions.too_long == "refuse":
                raise InputError(
                    f"{question.where}: {too_long}; shorten it, {self._cure()}or keep such rows out of the rounds with"
                    ' questions.too_long = "skip"'
                )
            yield replace(question, unusable=too_long)

    def _too_large(self, sizes: Iterable[tuple[int, int]]) -> str | None:
        most = self._config.questions.max_pixels
        for width, height in sizes:
            if width * height > most:
                return f"an image of {width} x {height} has {width * height:,} pixels, more than {most:,}"
        return None

    def _too_long(self, question: NewQuestion, sizes: tuple[tuple[int, int], ...]) -> str | None:
        """The reason why the question does not fit in some style that it may be asked in; None if it fits."""
        if self._encoder is None or self._longest is None:
            return None
        table = "sampling" if question.split == "train" else "evaluation"
        answer: int = getattr(self._config, table).max_tokens
        try:
            images = self._encoder.image_tokens(sizes)
        except ValueError as error:
            return f"the model's processor does not take its images ({error})"
        room = self._longest - images - answer
        bound = self._encoder.most_tokens(question.text)
        for style in self.styles(question.split):
            if bound is not None and bound + self._around(style, len(sizes)) <= room:
                continue
            prompt = Prompt(self._config.prompts.lay_out(style, question.text), ("",) * len(sizes))
            tokens = len(self._encoder.prompt_ids(prompt))
            if tokens > room:
                return (
                    f"too long: {tokens + images:,} tokens of prompt (style '{style}') and {table}.max_tokens ="
                    f" {answer} are more than {self._longest:,}"
                )
        return None

    def styles(self, split: str) -> list[str]:
        """The styles in which the run asks questions of a split."""
        trained, gate = self._config.sampling.style, self._config.gate
        if split == "train":
            return [trained]
        guarded = [] if gate.rule == "always" else gate.guard
        return list(dict.fromkeys([trained, *guarded, *self._config.evaluation.styles]))

    def _bytes_around(self, style: str, images: int) -> int:
        """Bytes of a prompt with `images` images and no question: the style's template in the model's."""
        assert self._encoder is not None
        return len(self._encoder.chat(Prompt(self._config.prompts.lay_out(style, ""), ("",) * images)).encode())

    def _cure(self) -> str:
        own = self._encoder.context_length if self._encoder is not None else None
        if self._longest == own:
            return ""
        return f"raise engine.max_model_len{'' if own is None else f' (the model takes {own:,})'}, "
