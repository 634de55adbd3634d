"""An engine without a model, for tests and benchmarks of what stands around engines; Ray carries it like the real one.

A file of a fault in `faults` makes the engine that finds it first fail once; a name that ends in `-always` stays.
"""

import hashlib
import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from policies import PolicyError
from policies.prompt import Prompt
from policies.sampler import Chain, Check, EngineStatus, Refuse, Request
from policies.weights import weights_sha256


@dataclass(frozen=True)
class StartSimulated:
    """Starts such an engine: seconds per chain, and the folder of its faults."""

    faults: Path
    seconds: float = 0.0

    def __call__(self, model: str, load_image: Callable[[str], bytes]) -> "SimulatedEngine":
        """The engine, in the process that calls it."""
        return SimulatedEngine(model, load_image, self)


class SimulatedEngine:
    """A `policies.sampler.Sampler` whose chains name its weights, the prompt, its images and the seed."""

    def __init__(self, model: str, load_image: Callable[[str], bytes], start: StartSimulated) -> None:
        self._load_image, self._start = load_image, start
        self._serves = weights_sha256(Path(model))

    def sample(self, requests: Iterable[Request], refused: Refuse | None = None) -> Iterator[Chain]:
        """One chain after the other."""
        for request in requests:
            if self._fault("die"):
                print("the simulated engine dies", file=os.sys.stderr, flush=True)  # type: ignore[attr-defined]
                os.kill(os.getpid(), signal.SIGKILL)
            if "too long" in request.prompt.text and refused is not None:
                refused(request, "too long")
                continue
            time.sleep(self._start.seconds)
            yield simulated_chain(self._serves, request, [self._load_image(name) for name in request.prompt.images])

    def load_weights(self, directory: Path) -> str:
        """Read the directory's weights."""
        if self._fault("slow-load"):
            time.sleep(60)
        self._serves = weights_sha256(directory)
        return self._serves

    def prove(self, prompts: Sequence[Prompt], completions: Sequence[Sequence[int]], check: Check) -> list[float]:
        """Scores that follow from the weights."""
        scores = simulated_scores(self._serves, len(prompts))
        if self._fault("wrong-scores"):
            scores = [each - 1.0 for each in scores]
        if fault := check(scores):
            raise PolicyError(fault)
        return scores

    def status(self) -> list[EngineStatus]:
        """It is one."""
        return []

    def close(self) -> None:
        """Nothing to free."""

    def _fault(self, name: str) -> bool:
        if (self._start.faults / f"{name}-always").exists():
            return True
        try:
            (self._start.faults / name).unlink()
        except FileNotFoundError:
            return False
        return True


def simulated_chain(serves: str, request: Request, images: Sequence[bytes] = ()) -> Chain:
    """The chain that an engine with these weights answers with."""
    seen = hashlib.sha256(b"".join(images)).hexdigest()[:8]
    text = f"{serves[:8]} {request.prompt.text} {request.seed} {seen}"
    tokens = tuple(hashlib.sha256(text.encode()).digest())
    return Chain(request.key, text, tokens, -float(sum(tokens)), "stop")


def simulated_scores(serves: str, count: int) -> list[float]:
    """The scores that such weights give."""
    return [-int(serves[:8], 16) / 2**32 - n for n in range(count)]


def as_it_is(content: bytes) -> bytes:
    """An image that is not decoded."""
    return content
