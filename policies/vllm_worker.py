"""Extends vLLM's workers for swaps: hashes weights while loading them, and renews what depends on them.

vLLM mixes the class into its own worker (`worker_extension_cls`), so each process of a tensor-parallel engine proves
what it loaded itself.
"""

from pathlib import Path
from typing import Any

from policies.weights import HashedWeights


class HashedReload:
    """Methods of a worker, called through `LLM.collective_rpc`."""

    def reload_hashed(self: Any, directory: str) -> str:
        """Load a directory's weights in place; returns the sha256 of the bytes that were loaded.

        Raises PolicyError if a file is not whole.
        """
        from vllm.platforms import current_platform

        weights = HashedWeights(Path(directory))
        self.reload_weights(weights_iterator=iter(weights))
        if current_platform.is_cpu():
            _repack_output_layers(self.get_model())
        return weights.sha256


def _repack_output_layers(model: Any) -> None:
    """On CPU vLLM computes with a packed copy of an output layer's weights.

    An output layer tied to the embeddings has no tensor of its own in a checkpoint, so a reload
    (vLLM 0.32) leaves that copy stale: new embeddings in, old logits out.
    """
    from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead

    for module in model.modules():
        if isinstance(module, ParallelLMHead):
            module.quant_method.process_weights_after_loading(module)
