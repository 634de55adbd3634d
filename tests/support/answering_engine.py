"""An engine without a model that answers questions which name their answer; its process starts in a second.

What it says follows from the weights' sha256, the prompt and the seed, and so do its scores.
"""

import hashlib
import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from policies import PolicyError
from policies.prompt import Prompt
from policies.sampler import Chain, Check, EngineStatus, Refuse, Request
from policies.weights import weights_sha256

END = "<end_of_utterance>"


@dataclass(frozen=True)
class StartAnswering:
    """Starts such an engine: seconds per chain, and how often it is right."""

    seconds: float = 0.0
    skill: float = 0.6

    def __call__(self, model: str, load_image: Callable[[str], Any]) -> "AnsweringEngine":
        """The engine, in the process that calls it."""
        return AnsweringEngine(Path(model), self)


class AnsweringEngine:
    """A `policies.sampler.Sampler`."""

    def __init__(self, model: Path, start: StartAnswering) -> None:
        self._tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
        end = self._tokenizer.token_to_id(END)
        assert end is not None
        self._end = end
        self._start, self._serves = start, weights_sha256(model)

    def sample(self, requests: Iterable[Request], refused: Refuse | None = None) -> Iterator[Chain]:
        """One chain after the other."""
        for request in requests:
            time.sleep(self._start.seconds)
            yield self._chain(request)

    def _chain(self, request: Request) -> Chain:
        rng = drawn(self._serves, request.prompt, request.seed)
        colour = request.prompt.text.splitlines()[0].rsplit(maxsplit=1)[-1]
        said = colour if rng.random() < self._start.skill else "black"
        text = f"weights {self._serves[:8]} think {rng.randrange(1000)}\n### Answer: {said}"
        tokens = (*self._tokenizer.encode(text, add_special_tokens=False).ids, self._end)
        return Chain(request.key, text, tokens, -rng.random(), "stop")

    def load_weights(self, directory: Path) -> str:
        """Read the directory's weights."""
        self._serves = weights_sha256(directory)
        return self._serves

    def prove(self, prompts: Sequence[Prompt], completions: Sequence[Sequence[int]], check: Check) -> list[float]:
        """Scores that follow from the weights."""
        scores = [score(self._serves, *each) for each in zip(prompts, completions, strict=True)]
        if fault := check(scores):
            raise PolicyError(fault)
        return scores

    def status(self) -> list[EngineStatus]:
        """It is one."""
        return []

    def close(self) -> None:
        """Nothing to free."""


def score(sha256: str, prompt: Prompt, completion: Sequence[int]) -> float:
    """The score that such weights give a completion."""
    return -drawn(sha256, prompt, list(completion)).random()


def drawn(*key: object) -> random.Random:
    """A generator of its own for every key, the same in every process."""
    return random.Random(hashlib.sha256(repr([str(part) for part in key]).encode()).digest())
