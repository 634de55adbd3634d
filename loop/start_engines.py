"""Which engines sample: one in this process, or several as processes of Ray, as `[engine]` and `[cluster]` want it."""

import os
from pathlib import Path

import torch

from loop.config.schema import Config
from loop.context import StartSampler
from loop.errors import InputError
from policies import PolicyError
from policies.encoding import Encoder
from policies.packaged_model import model_directory
from policies.ray_engines.cluster import Resources, require_ray
from policies.ray_engines.engines import RayEngines
from policies.ray_engines.roster import ClusterSettings, ImageSource
from policies.ray_engines.vllm import StartVllm
from policies.sampler import Sampler, Say
from policies.vllm_engine import EngineSettings, VllmEngine
from store import Store
from store.image_decoding import decode_image
from store.questions import image_bytes

WAITING = 3
"""Requests with an engine at once, in multiples of the sequences that it samples at once: two are in the engine."""


def sampler_starter(config: Config, store: Store, say: Say) -> StartSampler:
    """What starts the sampler of a configuration. Raises InputError where it needs Ray and there is none."""
    replicas, address = replicas_of(config), config.cluster.address
    if replicas == 1 and address is None:
        return VllmEngine
    try:
        require_ray("cluster.address" if replicas == 1 else f"engine.replicas = {replicas}")
    except PolicyError as error:
        raise InputError(str(error)) from error
    each = _each(config, replicas)
    settings = ClusterSettings(
        replicas=replicas,
        each=each,
        waiting=WAITING * config.engine.max_num_seqs,
        address=address,
        shared_files=config.cluster.shared_files,
        # Threads of several processes that spin while they wait slow each other tenfold.
        environment={"OMP_NUM_THREADS": str(each.cpus), "OMP_WAIT_POLICY": "passive"},
        swap_seconds=config.engine.swap_seconds,
    )
    images = ImageSource(lambda digest: image_bytes(store, digest)[0], decode_image)

    def start(model: str, encoder: Encoder, engine: EngineSettings, seed: int) -> Sampler:
        return RayEngines(Path(model_directory(model)), StartVllm(engine, seed), images, settings, say)

    return start


def replicas_of(config: Config) -> int:
    """How many engines: the key's number, or with "auto" one per device, on CPUs one per core."""
    wanted = config.engine.replicas
    if wanted != "auto":
        return wanted
    devices = torch.cuda.device_count() or _cores()
    return max(1, devices // config.engine.tensor_parallel_size)


def _each(config: Config, replicas: int) -> Resources:
    if torch.cuda.is_available():
        return Resources(cpus=1, gpus=config.engine.tensor_parallel_size)
    return Resources(cpus=max(1, _cores() // replicas), gpus=0)


def _cores() -> int:
    return len(os.sched_getaffinity(0))
