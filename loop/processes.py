"""Chooses where sampling and learning run: in this process, or in Ray's processes, by `[engine]` and `[learner]`."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from loop.config.schema import Config
from loop.context import StartSampler
from loop.errors import InputError
from policies import PolicyError
from policies.encoding import Encoder
from policies.learner.learner import Learner, LocalLearner
from policies.packaged_model import model_directory
from policies.ray_engines.cluster import Resources, has_ray, require_answer, require_ray
from policies.ray_engines.engines import RayEngines
from policies.ray_engines.images import ImageSource
from policies.ray_engines.roster import ClusterSettings
from policies.ray_engines.vllm import StartVllm
from policies.ray_learner.learner import WorkerSettings, WorkersLearner
from policies.sampler import Sampler, Say
from policies.vllm_engine import EngineSettings, VllmEngine
from store import Store
from store.image_decoding import decode_image
from store.questions import image_bytes

WAITING = 3
"""Requests per engine, in multiples of the sequences that it samples at once; two of them are inside vLLM."""


def sampler_starter(config: Config, store: Store, say: Say, with_room: Callable[[int], int]) -> StartSampler:
    """The function that starts a configuration's sampler. Raises InputError if it needs Ray and Ray is missing.

    `with_room` takes a number of engines and returns how many of them this machine's memory can hold.
    """
    wanted, address = config.engine.replicas, config.cluster.address
    if wanted == "auto" and address is None:
        wanted = _as_many_as_pay(config, say, with_room)
    if wanted == 1 and address is None:
        return VllmEngine
    with _as_input_error():
        require_ray(f"engine.replicas = {wanted}" if address is None else "cluster.address")
        require_answer(address)
    if address is None and wanted != "auto" and wanted > (most := _devices(config)):
        raise InputError(
            f"engine.replicas = {wanted}: this machine has room for {most}; lower it, or name a cluster in"
            " cluster.address"
        )
    on_gpu = torch.cuda.is_available()
    cpus = 1 if on_gpu or wanted == "auto" else max(1, _cores() // wanted)
    settings = ClusterSettings(
        replicas=None if wanted == "auto" else wanted,
        each=Resources(cpus, config.engine.tensor_parallel_size if on_gpu else 0),
        kept=Resources(gpus=config.learner.workers if on_gpu and config.learner.workers > 1 else 0),
        waiting=WAITING * config.engine.max_num_seqs,
        address=address,
        shared_files=config.cluster.shared_files,
        environment=_environment(cpus),
        swap_seconds=config.engine.swap_seconds,
    )
    images = _images(store)

    def start(model: str, encoder: Encoder, engine: EngineSettings, seed: int) -> Sampler:
        return RayEngines(
            Path(model_directory(model)), StartVllm(engine, seed, encoder.chat_settings), images, settings, say
        )

    return start


def _as_many_as_pay(config: Config, say: Say, with_room: Callable[[int], int]) -> int:
    """One engine per device of this machine, on CPUs as many as memory can hold; one if Ray is missing."""
    devices = _devices(config)
    if devices == 1:
        return 1
    if not has_ray():
        say(
            f"one engine in this process, though there is room for {devices} (engine.replicas = 'auto'): Ray is not"
            " installed; install the extra 'cluster': pip install 'ratchet-loop[cluster]'"
        )
        return 1
    count = devices if torch.cuda.is_available() else with_room(devices)
    why = "" if count == devices else f"; memory has no room for {devices}"
    say(f"{count} engine{'s' if count > 1 else ''} (engine.replicas = 'auto'){why}")
    return count


def learner_of(config: Config, store: Store, encoder: Encoder, make_local: Callable[..., Learner], say: Say) -> Learner:
    """The learner of a configuration: `make_local`'s, or one whose trainings run in several processes.

    Raises InputError if it needs Ray and Ray is not installed.
    """
    local = make_local(encoder, trust_remote_code=config.policy.trust_remote_code, dtype=config.learner.dtype)
    workers = config.learner.workers
    if workers == 1:
        return local
    assert isinstance(local, LocalLearner)
    with _as_input_error():
        require_ray(f"learner.workers = {workers}")
        require_answer(config.cluster.address)
    on_gpu = torch.cuda.is_available()
    settings = WorkerSettings(
        workers=workers,
        # On CPUs the engines have reserved the cores, and wait while the learner trains.
        each=Resources(cpus=0, gpus=1 if on_gpu else 0),
        sharded=config.learner.strategy == "fsdp2",
        address=config.cluster.address,
        shared_files=config.cluster.shared_files,
        environment=_environment(max(1, _cores() // workers)),
    )
    return WorkersLearner(local, encoder, Path(model_directory(config.policy.model)), _images(store), settings, say)


@contextmanager
def _as_input_error() -> Iterator[None]:
    try:
        yield
    except PolicyError as error:
        raise InputError(str(error)) from error


def _images(store: Store) -> ImageSource:
    return ImageSource(lambda digest: image_bytes(store, digest)[0], decode_image)


def _environment(threads: int) -> dict[str, str]:
    """Environment with as many threads as the process has cores: processes that share cores slow each other tenfold."""
    return {"OMP_NUM_THREADS": str(threads)}


def _devices(config: Config) -> int:
    """Number of engines that this machine has devices for: one per GPU, or per group of GPUs; on CPUs one per core."""
    return max(1, (torch.cuda.device_count() or _cores()) // config.engine.tensor_parallel_size)


def _cores() -> int:
    return len(os.sched_getaffinity(0))
