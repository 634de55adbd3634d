"""The interface of all samplers: requests in, chains out, weights swapped in place."""

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

from policies import PolicyError
from policies.prompt import Prompt


@dataclass(frozen=True)
class Request:
    """One chain to sample. `key` comes back with the chain; `seed` makes it repeatable."""

    key: Hashable
    prompt: Prompt
    temperature: float
    max_tokens: int
    seed: int | None = None
    top_p: float = 1.0


@dataclass(frozen=True)
class Chain:
    """A sampled output. `logprob` sums the raw (temperature 1) log-probabilities in nats.

    `finish_reason` is "stop" (end token) or "length" (ran into max_tokens).
    """

    key: Hashable
    text: str
    token_ids: tuple[int, ...]
    logprob: float
    finish_reason: str


Refuse = Callable[[Request, str], object]
"""Told of a request that the engine does not take, and why."""


@dataclass(frozen=True)
class EngineStatus:
    """One engine of a sampler with several. `state` is "serving", "starting" or "shut out".

    `serves` is the sha256 of the weights that it is proved to hold; `tokens_per_s` counts the seconds in which it
    sampled; `note` says why it was begun again last, or is shut out.
    """

    number: int
    host: str
    pid: int
    state: str
    serves: str | None
    chains: int
    tokens: int
    tokens_per_s: float
    restarts: int
    note: str


Check = Callable[[Sequence[float]], str | None]
"""Scores of the probe -> what is wrong with them, None if they prove the weights."""

Say = Callable[[str], object]
"""Tells the user a line."""


class RequestRefused(PolicyError):
    """The engine does not take a request; `reason` says why."""

    def __init__(self, key: object, reason: str) -> None:
        super().__init__(
            f"the sampler cannot take {key}: {reason}; raise engine.max_model_len, or take the question out with 'drop'"
        )
        self.reason = reason


class Sampler(Protocol):
    """A running sampler that serves one policy at a time, from one engine or many."""

    def sample(self, requests: Iterable[Request], refused: Refuse | None = None) -> Iterator[Chain]:
        """Chains in the order in which they finish, one per request.

        A request that the engine refuses has none: `refused` is called. Without `refused` that raises PolicyError.
        """

    def load_weights(self, directory: Path) -> str:
        """Swap weights in place and clear every cache; returns the sha256 of what was loaded."""

    def prove(self, prompts: Sequence[Prompt], completions: Sequence[Sequence[int]], check: Check) -> list[float]:
        """Let every engine score the probe, and check the scores; returns those of one engine.

        A score is the summed log-probability in nats of a completion after its prompt. Raises PolicyError if no engine
        passes; engines that are begun again later are proved in the same way.
        """

    def status(self) -> list[EngineStatus]:
        """The engines, where they are processes of their own."""

    def close(self) -> None:
        """Free the engine."""


@runtime_checkable
class Sleeper(Protocol):
    """A sampler that can leave its card to the learner: first `wake("weights")`, load, then `wake("kv_cache")`."""

    can_sleep: bool
    """Whether this machine and these settings let it sleep."""

    def sleep(self) -> None:
        """Leave the card: weights and cache go, and what was loaded has to be loaded again."""

    def wake(self, part: Literal["weights", "kv_cache"]) -> None:
        """Take memory on the card again for the weights or for the cache; its content is undefined."""
