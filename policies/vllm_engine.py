"""Sampling with vLLM in this process: continuous batching, in-place weight swap."""

import gc
import importlib
import importlib.util
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from policies import PolicyError, SettingError
from policies.encoding import Encoder, Prompt, install_hint, load_model_config
from policies.packaged_model import model_directory
from policies.sampler import Chain, Check, EngineStatus, Refuse, Request, RequestRefused
from policies.weights import reading

# The engine lives in this process: swaps hand tensors over without another process in between.
os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
os.environ.setdefault("VLLM_CONFIGURE_LOGGING", "0")
os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
os.environ.setdefault("VLLM_CPU_NUM_OF_RESERVED_CPU", "0")


CPU_BLOCK_TOKENS = 32
"""The smallest block of the CPU backend. Only whole blocks are shared by the samples of a question, and the default of
128 is longer than most prompts."""
CPU_BATCHED_TOKENS = 8192


@dataclass(frozen=True)
class EngineSettings:
    """vLLM's own options that a recipe may set."""

    dtype: str = "auto"
    max_model_len: int | None = None
    max_num_seqs: int = 128
    kv_cache_gib: float | None = None
    gpu_memory_utilization: float = 0.45
    tensor_parallel_size: int = 1
    enforce_eager: bool = False
    max_images: int = 1
    trust_remote_code: bool = False
    sleep: int = 0
    """vLLM's sleep level: 1 keeps the weights in the host's memory, 2 drops them, 0 does not sleep."""


class VllmEngine:
    """One vLLM engine for the whole run; see `policies.sampler.Sampler`."""

    def __init__(self, model: str, encoder: Encoder, settings: EngineSettings, seed: int) -> None:
        import torch
        from vllm import LLM
        from vllm.platforms import current_platform

        if settings.enforce_eager:
            # vLLM 0.32 compiles the ranks of log-probabilities all the same, at the first swap: 3 to 12 s on CPU.
            torch.compiler.set_stance("force_eager")
        self._encoder = encoder
        self._settings = settings
        options: dict[str, Any] = {}
        if settings.kv_cache_gib is not None:
            options["kv_cache_memory_bytes"] = int(settings.kv_cache_gib * 2**30)
        if encoder.is_vision:
            options["limit_mm_per_prompt"] = {"image": settings.max_images}
        self.can_sleep = settings.sleep > 0 and current_platform.is_sleep_mode_available()
        if self.can_sleep:  # elsewhere vLLM refuses the option
            options["enable_sleep_mode"] = True
        if current_platform.is_cpu():
            # A seeded request whose prompt is cut in two dies on CPU (vLLM 0.32 rewinds its generator).
            options["enable_chunked_prefill"] = False
            options["max_num_batched_tokens"] = max(CPU_BATCHED_TOKENS, settings.max_model_len or 0)
            options["block_size"] = CPU_BLOCK_TOKENS
        try:
            self._llm = LLM(
                model_directory(model),
                dtype=settings.dtype,
                seed=seed,
                max_model_len=settings.max_model_len,
                max_num_seqs=settings.max_num_seqs,
                gpu_memory_utilization=settings.gpu_memory_utilization,
                tensor_parallel_size=settings.tensor_parallel_size,
                enforce_eager=settings.enforce_eager,
                trust_remote_code=settings.trust_remote_code,
                worker_extension_cls="policies.vllm_worker.HashedReload",
                **options,
            )
        except ValueError as error:
            # Pydantic's own lines stand around what vLLM says.
            said = [line.strip() for line in str(error).splitlines() if "max_model_len" in line]
            if not said:
                raise
            raise PolicyError(
                f"vLLM does not start with engine.max_model_len = {settings.max_model_len}: {said[0]}"
            ) from error
        self._engine = self._llm.llm_engine
        self._started = 0
        # vLLM, PyTorch and TRL are millions of objects that stay. Python's collector need not visit them each time.
        gc.collect()
        gc.freeze()

    def sample(self, requests: Iterable[Request], refused: Refuse | None = None) -> Iterator[Chain]:
        """Keep the engine full and hand out each chain as it finishes.

        Requests are drawn lazily, twice `max_num_seqs` in flight, so memory stays flat however
        many there are and no batch boundary ever leaves the engine idle. An iterator that had none is
        asked again after each step, while others are in flight. A consumer that stops early aborts
        what is in flight. A prompt that comes several times in a row is rendered once.
        `refused` is called with a request that vLLM refuses; without `refused` RequestRefused is raised.
        """
        source = iter(requests)
        # For this call only: after a swap the engine has forgotten the images that a rendered prompt refers to.
        render = lru_cache(maxsize=1)(self._render)
        in_flight: dict[str, Request] = {}
        try:
            while True:
                while len(in_flight) < 2 * self._settings.max_num_seqs and (request := next(source, None)):
                    try:
                        in_flight[self._submit(request, render)] = request
                    except RequestRefused as error:
                        if refused is None:
                            raise
                        refused(request, error.reason)
                if not in_flight:
                    return
                for output in self._engine.step():
                    if output.finished:
                        yield self._chain(in_flight.pop(output.request_id), output)
        finally:
            if in_flight:
                self._engine.abort_request(list(in_flight))

    def load_weights(self, directory: Path) -> str:
        """Reload in place, then clear the caches that depend on weights.

        The worker forgets its image encodings at reload but the scheduler does not: without
        `reset_encoder_cache` the next repeated image ends in "Encoder cache miss". Raises PolicyError
        if the engine's workers loaded different bytes.
        """
        with reading(directory):
            digests = set(self._llm.collective_rpc("reload_hashed", args=(str(directory),)))
        if len(digests) > 1:
            raise PolicyError(f"{directory}: the engine's workers loaded different bytes; the files changed meanwhile")
        self._llm.reset_prefix_cache()
        self._llm.reset_mm_cache()
        self._engine.reset_encoder_cache()
        return str(digests.pop())

    def prove(self, prompts: Sequence[Prompt], completions: Sequence[Sequence[int]], check: Check) -> list[float]:
        """Score the probe and check it; raises PolicyError if the scores are not those of the weights."""
        scores = self.score(prompts, completions)
        if fault := check(scores):
            raise PolicyError(fault)
        return scores

    def score(self, prompts: Sequence[Prompt], completions: Sequence[Sequence[int]]) -> list[float]:
        """Log-probabilities through vLLM's prompt logprobs; raises PolicyError if token ids differ."""
        from vllm import SamplingParams

        inputs = [self._input(p, c) for p, c in zip(prompts, completions, strict=True)]
        parameters = SamplingParams(max_tokens=1, temperature=0, prompt_logprobs=0)
        outputs = self._llm.generate(inputs, parameters, use_tqdm=False)
        scores = []
        for prompt, completion, output in zip(prompts, completions, outputs, strict=True):
            _require_alike(
                prompt, output.prompt_token_ids[: -len(completion)], self._encoder.expanded_prompt_ids(prompt)
            )
            tail = output.prompt_logprobs[-len(completion) :]
            scores.append(sum(entry[token].logprob for entry, token in zip(tail, completion, strict=True)))
        return scores

    def status(self) -> list[EngineStatus]:
        """None: the engine is part of this process."""
        return []

    def sleep(self) -> None:
        """Leave the card to others, at the level of the settings; nothing may be in flight."""
        self._llm.sleep(level=self._settings.sleep)

    def wake(self, part: Literal["weights", "kv_cache"]) -> None:
        """Take the card again, first for the weights and once they are loaded for the cache."""
        self._llm.wake_up(tags=[part])

    def close(self) -> None:
        """Shut the engine down."""
        self._engine.engine_core.shutdown()

    def _submit(self, request: Request, render: Callable[[Prompt], Any]) -> str:
        from vllm import SamplingParams
        from vllm.exceptions import VLLMValidationError
        from vllm.sampling_params import RequestOutputKind

        self._started += 1
        parameters = SamplingParams(
            temperature=request.temperature,
            top_p=request.top_p,
            max_tokens=request.max_tokens,
            seed=request.seed,
            logprobs=0,
            detokenize=False,  # vLLM would decode every token's log-probability too
            output_kind=RequestOutputKind.FINAL_ONLY,
        )
        identity = str(self._started)
        try:
            self._engine.add_request(identity, render(request.prompt), parameters)
        except (ValueError, VLLMValidationError) as error:
            # Rendering noted the images as handed over, and they were not: let the next prompt bring them again.
            self._llm.renderer.clear_mm_cache()
            raise RequestRefused(request.key, str(error).partition(" Make sure that")[0].rstrip(".")) from error
        return identity

    def _render(self, prompt: Prompt) -> Any:
        """A prompt as the engine takes it, its images processed.

        Raises PolicyError if the learner reads it otherwise.
        """
        from vllm.renderers.inputs.preprocess import parse_model_prompt

        given = self._input(prompt)
        (rendered,) = self._llm.renderer.render_cmpl([parse_model_prompt(self._llm.model_config, given)])
        if prompt.images:
            ids, images = rendered["prompt_token_ids"], given["multi_modal_data"]["image"]
            expected = len(given["prompt_token_ids"]) + self._encoder.image_tokens(tuple(i.size for i in images))
            if len(ids) != expected:  # some merge a word with what stands for an image: ask the processor itself
                _require_alike(prompt, ids, self._encoder.expanded_prompt_ids(prompt))
        return rendered

    def _chain(self, request: Request, output: Any) -> Chain:
        result = output.outputs[0]
        token_ids = tuple(result.token_ids)
        return Chain(
            key=request.key,
            text=self._encoder.text(token_ids),
            token_ids=token_ids,
            logprob=float(result.cumulative_logprob),
            finish_reason=result.finish_reason,
        )

    def _input(self, prompt: Prompt, completion: Sequence[int] = ()) -> Any:
        tokens: dict[str, Any] = {"prompt_token_ids": [*self._encoder.prompt_ids(prompt), *completion]}
        if prompt.images:
            tokens["multi_modal_data"] = {"image": [self._encoder.load_image(d) for d in prompt.images]}
            tokens["multi_modal_uuids"] = {"image": list(prompt.images)}
        return tokens


def _require_alike(prompt: Prompt, by_vllm: Sequence[int], by_processor: Sequence[int]) -> None:
    """Raise PolicyError, naming both numbers, unless sampler and learner read a prompt as the same token ids."""
    ours, theirs = list(by_processor), list(by_vllm)
    if ours == theirs:
        return
    images = f"{len(prompt.images)} image{'s' * (len(prompt.images) != 1)}"
    if len(ours) != len(theirs):
        differ = f"{len(theirs)} token ids, the model's processor as {len(ours)}"
    else:
        place = next(n for n, (a, b) in enumerate(zip(ours, theirs, strict=True)) if a != b)
        differ = f"{len(theirs)} token ids, of which number {place} is {theirs[place]}, to the processor {ours[place]}"
    raise PolicyError(
        f"vLLM reads a prompt with {images} as {differ}; docs/models.md has what is known of each architecture"
    )


def require_importable(model: str, *, trust_remote_code: bool = False) -> None:
    """Raise SettingError if vLLM has the model's architecture and a package that it imports for it is missing.

    Without torchvision most vision-language models are such, and vLLM itself says so when it starts: after a cold
    start has been trained.
    """
    if importlib.util.find_spec("torchvision") is not None:
        return
    from vllm.model_executor.models import ModelRegistry

    for name in getattr(load_model_config(model, trust_remote_code), "architectures", None) or []:
        module = getattr(ModelRegistry.models.get(name), "module_name", None)
        try:
            if module is not None:
                importlib.import_module(module)
        except ModuleNotFoundError as error:
            raise SettingError(
                f"policy.model = {model!r}: vLLM's {name} needs {error.name}, which is not installed;"
                f" {install_hint(error.name)}"
            ) from error
