"""Memory of the sampler: vLLM's weights, KV cache and working memory, and a swap of its weights."""

from dataclasses import dataclass

from loop.config.schema import Config
from loop.planning.activations import FLOAT32, Precision, working
from loop.planning.lengths import Longest
from loop.planning.memory import GIB, MIB, Memory, memory
from loop.planning.model_shape import ModelShape
from policies.image_cache import CACHE_BYTES
from policies.vllm_engine import CPU_BATCHED_TOKENS
from policies.weights import SHARD_SIZE

LIBRARIES = 265 * MIB
"""Memory that vLLM takes for any model: modules, kernels, and code compiled for its first requests."""

CPU_CACHE_GIB = 4.0
"""Default KV cache of vLLM's CPU backend."""

GRAPHS = GIB
"""Approximate size of CUDA graphs; none with engine.enforce_eager."""

FILES_IN_A_SWAP = 2
"""A file of weights is read whole to be hashed, and its tensors are copies; no file is larger than `SHARD_SIZE`."""

PROCESSED_IMAGES = 4 * GIB
"""Most bytes of processed images that vLLM keeps (`mm_processor_cache_gb`)."""

BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True)
class Sampler:
    """Memory of sampling, a swap included; `host_kept` stays taken while nothing is sampled."""

    host: Memory
    card: Memory
    host_kept: int


def sampler_memory(config: Config, shape: ModelShape, longest: Longest, card_bytes: int | None) -> Sampler:
    """The sampler's memory for a configuration, on a card of this size in bytes or on the CPU (None)."""
    engine, number = config.engine, BYTES[config.policy.dtype]
    weights = shape.count * number
    published = shape.count * (2 if config.learner.dtype == "bfloat16" else FLOAT32)
    swap = FILES_IN_A_SWAP * min(published, SHARD_SIZE)
    images = _images_at_hand(shape, longest)
    # Prompts are read until a step is full of tokens, and with them their images are encoded.
    prompts = min(engine.max_num_seqs, max(1, CPU_BATCHED_TOKENS // longest.prompt))
    layers = working(shape.text, prompts * longest.prompt, Precision(number, number))
    if shape.vision:
        layers += working(shape.vision, prompts * longest.patches, Precision(number, number))
    logits = 3 * engine.max_num_seqs * shape.vocabulary * FLOAT32
    if card_bytes is None:
        # Linear layers are packed for oneDNN. The heap keeps the room of the weights that were packed, and the output
        # layer stays unpacked too where it is the embedding.
        packed = sum(inputs * outputs for _, inputs, outputs in shape.linear) + shape.head
        kept = {
            "weights": weights,
            "packed weights": packed * number,
            "KV cache": (engine.kv_cache_gib or CPU_CACHE_GIB) * GIB,
            "images": images,
            "libraries": LIBRARIES,
        }
        parts = {**kept, "swap": swap, "activations": layers, "output layer": logits}
        stays = int(sum(kept.values()))
        return Sampler(memory(parts, stays + max(swap, layers + logits)), Memory(), stays)
    share = engine.gpu_memory_utilization * card_bytes
    parallel = engine.tensor_parallel_size
    own = {
        "weights": weights / parallel,
        "activations": layers + logits,
        "CUDA graphs": 0 if engine.enforce_eager else GRAPHS,
    }
    if engine.kv_cache_gib is not None:
        cache = engine.kv_cache_gib * GIB
    else:
        cache = max(share - sum(own.values()), longest.tokens * kv_bytes_per_token(shape, number) / parallel)
    card = memory({**own, "KV cache": cache})
    asleep = weights if engine.sleep == 1 else 0
    host = {"images": images, "libraries": LIBRARIES, "weights asleep": asleep}
    return Sampler(memory({**host, "swap": swap}), card, int(sum(host.values())))


def kv_bytes_per_token(shape: ModelShape, number: int) -> int:
    """Bytes of keys and values that one token takes in all layers."""
    return 2 * shape.text.layers * shape.text.keys * number


def _images_at_hand(shape: ModelShape, longest: Longest) -> int:
    """Decoded ones of the encoder's cache, and processed ones of vLLM's."""
    decoded = min(CACHE_BYTES, longest.pixel_bytes)
    return decoded + min(PROCESSED_IMAGES, longest.images * longest.patches * shape.patch_values * FLOAT32)
