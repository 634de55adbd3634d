"""The learner: loads, trains, scores and publishes a policy's model."""

import gc
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

from policies import PolicyError, first_line
from policies.encoding import Encoder
from policies.learner.base import Algorithm, TrainingResult, TrainingSettings
from policies.learner.callbacks import Progress
from policies.learner.heap import give_back
from policies.learner.interpolate import interpolate
from policies.learner.lora import load_adapter
from policies.verifier import ScoredChain, token_logprobs
from policies.weights import publish


class Learner(Protocol):
    """The interface to the model that learns. `LocalLearner` is the real one."""

    def load(self, directory: Path | str) -> Any:
        """A policy's model, ready to train or score. Raises PolicyError if its weights cannot be loaded."""

    def with_adapter(self, model: Any, directory: Path) -> Any:
        """The model with an adapter that is kept in a directory, to train that one on."""

    def train(
        self,
        algorithm: Algorithm,
        model: Any,
        items: Sequence[Any],
        settings: TrainingSettings,
        work_dir: Path,
        progress: Progress,
    ) -> TrainingResult:
        """Train the model on the items. Raises TrainingDiverged if loss or weights stop being numbers."""

    def token_logprobs(
        self,
        model: Any,
        chains: Sequence[ScoredChain],
        progress: Callable[[int], object] = ...,
        mixed_precision: str = "no",
        sides: int = 1,
    ) -> list[list[float]]:
        """Log-probability in nats of every completion token of each chain; see `policies.verifier.token_logprobs`."""

    def interpolate(self, start: Any, end: Any, alpha: float) -> Any:
        """A model whose weights are `alpha` of the way from `start` to `end`; `start` itself may be changed."""

    def publish(self, model: Any, directory: Path, adapters: Mapping[str, Path] | None = None) -> str:
        """Write the model to a directory, complete or not at all, with its adapters; returns the weights' sha256."""

    def free_memory(self) -> None:
        """Free the memory of models that are no longer used, so that the sampler can use it."""


class LocalLearner:
    """The learner in this process, on the accelerator if there is one."""

    def __init__(
        self, encoder: Encoder, *, trust_remote_code: bool = False, dtype: str = "float32", on_device: bool = True
    ) -> None:
        self._encoder, self._on_device = encoder, on_device
        self.trust_remote_code, self.dtype = trust_remote_code, dtype

    def load(self, directory: Path | str) -> Any:
        """Load in the learner's dtype, in which the model is trained and published, whatever the sampler's dtype.

        At the learning rates of DPO a bfloat16 weight changes only if the optimizer rounds it stochastically
        (`rounded_adamw.py`). `mixed_precision` makes only the arithmetic bfloat16.
        """
        loader: Any = AutoModelForImageTextToText if self._encoder.is_vision else AutoModelForCausalLM
        try:
            loaded = loader.from_pretrained(
                str(directory),
                dtype=getattr(torch, self.dtype),
                use_safetensors=True,
                trust_remote_code=self.trust_remote_code,
            )
        except (OSError, ValueError, RuntimeError, SafetensorError) as error:
            raise PolicyError(f"{directory}: its weights cannot be loaded ({first_line(error)})") from error
        return loaded.to("cuda") if self._on_device and torch.cuda.is_available() else loaded

    def with_adapter(self, model: Any, directory: Path) -> Any:
        """peft's model, in which the adapter alone is trained."""
        return load_adapter(model, directory)

    def train(
        self,
        algorithm: Algorithm,
        model: Any,
        items: Sequence[Any],
        settings: TrainingSettings,
        work_dir: Path,
        progress: Progress,
    ) -> TrainingResult:
        """Train in this process."""
        return algorithm.train(model, self._encoder, items, settings, work_dir, progress)

    def token_logprobs(
        self,
        model: Any,
        chains: Sequence[ScoredChain],
        progress: Callable[[int], object] = lambda _: None,
        mixed_precision: str = "no",
        sides: int = 1,
    ) -> list[list[float]]:
        """Score by forward passes of the model."""
        found: list[list[float]] = token_logprobs(model, self._encoder, chains, progress, mixed_precision, sides)
        return found

    def interpolate(self, start: Any, end: Any, alpha: float) -> Any:
        """Interpolate in place of `start`."""
        return interpolate(start, end, alpha)

    def publish(self, model: Any, directory: Path, adapters: Mapping[str, Path] | None = None) -> str:
        """Write model and processor."""
        return publish(model, self._encoder.processor, directory, adapters)

    def free_memory(self) -> None:
        """Collect garbage, return the heap's free pages to the system, and empty the accelerator's cache."""
        gc.collect()
        give_back()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
