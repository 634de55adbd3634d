"""The process of one engine: samples the given requests from the policy that the call names."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from policies import PolicyError

# Nothing heavy: PyTorch reads the environment that the actor sets when it is imported.
if TYPE_CHECKING:
    from policies.prompt import Prompt
    from policies.ray_engines.transfer import Place
    from policies.sampler import Chain, Request, Sampler

T = TypeVar("T")

StartEngine = Callable[[str, Callable[[str], Any]], "Sampler"]
"""(model directory, image's name -> image) -> an engine; picklable, as it is called in the engine's process."""

DecodeImage = Callable[[bytes], Any]
"""Encoded image -> image; picklable."""

WORK_SECONDS = 2.0
"""A call that samples returns after so long at the latest once something has finished."""


class StaleEngine(PolicyError):
    """The engine holds other weights than those that the call names."""


@dataclass(frozen=True)
class Reply(Generic[T]):
    """The value that a call returns, and the lines that the engine's process logged since the last call."""

    value: T
    log: list[tuple[int, str]] = field(default_factory=list)
    """(level, text)"""


@dataclass(frozen=True)
class Description:
    """An engine's node, process and package versions; `log` is the path of its standard error on that node."""

    node: str
    host: str
    pid: int
    versions: Mapping[str, str]
    log: str


@dataclass(frozen=True)
class Finished:
    """Finished chains, whose keys are the numbers of their requests, and refused requests with the reason."""

    chains: list[Chain]
    refused: list[tuple[int, str]]
    seconds: float


class EngineActor:
    """One engine in a process of its own.

    Every call but `load` names the sha256 of the weights that must answer. A process that Ray restarted holds its first
    model, so it refuses.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        os.environ.update(environment)
        self._log = _LogLines()
        logging.getLogger().addHandler(self._log)
        self._engine: Sampler | None = None
        self._sha256: str | None = None
        self._images: dict[str, Any] = {}
        self._waiting: deque[Request] = deque()
        self._stream: Iterator[Chain] | None = None
        self._refused: list[tuple[int, str]] = []

    def start(self, start_engine: StartEngine, decode: DecodeImage, model: Place) -> Reply[Description]:
        """Start the engine with a model. Raises PolicyError if the node does not have it."""
        import ray

        from policies.ray_engines.transfer import at_hand
        from policies.ray_engines.versions import installed_versions

        def load_image(name: str) -> Any:
            return decode(ray.get(self._images[name]))

        self._model = at_hand(model)  # kept while the process lives: the tokenizer's files may be read later
        self._engine = start_engine(str(self._model.__enter__()), load_image)
        node = ray.get_runtime_context().get_node_id()
        log = str(Path("/proc/self/fd/2").readlink())
        return self._reply(Description(node, socket.gethostname(), os.getpid(), installed_versions(), log))

    def load(self, weights: Place) -> Reply[str]:
        """Swap the weights in place; returns the sha256 of what was loaded."""
        from policies.ray_engines.transfer import at_hand

        self._sha256 = None
        with at_hand(weights) as directory:
            self._sha256 = self._running().load_weights(directory)
        return self._reply(self._sha256)

    def score(
        self, sha256: str, prompts: Sequence[Prompt], completions: Sequence[Sequence[int]], images: Mapping[str, Any]
    ) -> Reply[list[float]]:
        """Summed log-probability in nats of each completion after its prompt."""
        engine = self._serving(sha256)
        self._images.update(images)
        return self._reply(engine.prove(prompts, completions, _accept))  # the controller checks

    def work(
        self, sha256: str, requests: Sequence[Request], images: Mapping[str, Any], at_least: int
    ) -> Reply[Finished]:
        """Take more requests, and sample until `at_least` of them or all have finished.

        Unfinished requests stay in the engine, which continues them at the next call. Keys of requests are
        numbers.
        """
        engine = self._serving(sha256)
        started = time.monotonic()
        self._images.update(images)
        self._waiting.extend(requests)
        self._stream = self._stream or engine.sample(_Feed(self._waiting), self._refuse)
        chains: list[Chain] = []
        for chain in self._stream:
            chains.append(chain)
            if len(chains) >= at_least or time.monotonic() - started > WORK_SECONDS:
                break
        else:
            self._stream = None
            self._images.clear()
        refused, self._refused = self._refused, []
        return self._reply(Finished(chains, refused, time.monotonic() - started))

    def abandon(self) -> None:
        """Forget all unfinished requests."""
        if self._stream is not None:
            self._stream.close()  # type: ignore[attr-defined]
        self._stream = None
        self._waiting.clear()
        self._images.clear()
        self._refused = []

    def close(self) -> None:
        """Free the engine and the files that were fetched for it."""
        from policies.ray_engines.transfer import delete_fetched

        if self._engine is not None:
            self._engine.close()
        self._model.__exit__(None, None, None)
        delete_fetched()

    def _refuse(self, request: Request, reason: str) -> None:
        assert isinstance(request.key, int)
        self._refused.append((request.key, reason))

    def _running(self) -> Sampler:
        assert self._engine is not None, "start() comes first"
        return self._engine

    def _serving(self, sha256: str) -> Sampler:
        if self._sha256 != sha256:
            holds = "the model as it was given" if self._sha256 is None else f"sha256 {self._sha256[:12]}…"
            raise StaleEngine(f"the engine holds {holds}, the call is for sha256 {sha256[:12]}…")
        return self._running()

    def _reply(self, value: T) -> Reply[T]:
        return Reply(value, self._log.taken())


def _accept(scores: Sequence[float]) -> None:
    """Accept any scores."""


class _Feed:
    """An iterator over a queue that may be filled again after it was found empty."""

    def __init__(self, waiting: deque[Request]) -> None:
        self._waiting = waiting

    def __iter__(self) -> _Feed:
        return self

    def __next__(self) -> Request:
        if not self._waiting:
            raise StopIteration
        return self._waiting.popleft()


class _LogLines(logging.Handler):
    """Keeps the last few hundred log records until a call returns them."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self._lines: deque[tuple[int, str]] = deque(maxlen=500)

    def emit(self, record: logging.LogRecord) -> None:
        self._lines.append((record.levelno, f"{record.name}: {record.getMessage()}"))

    def taken(self) -> list[tuple[int, str]]:
        """Return and forget the lines that were logged since the last call."""
        lines = list(self._lines)
        self._lines.clear()
        return lines
