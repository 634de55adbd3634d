"""The output layer on a CPU: TRL's log-probabilities in small tiles, for the positions that have a label.

On a CPU TRL 1.16 computes every position, those of prompts included, in tiles of 4,096 tokens by 32,768 words
(`trl/kernels/chunked_logprob.py`). PyTorch's own operations hold eight tiles at once: up to 4 GiB.
"""

from collections.abc import Iterator
from contextlib import contextmanager

TILE_TOKENS, TILE_WORDS = 512, 4096
"""Tokens and words per tile on a CPU: 8 MiB in float32."""


@contextmanager
def small_tiles(device: str, vocabulary: int, tokens: int = TILE_TOKENS, words: int = TILE_WORDS) -> Iterator[None]:
    """Let TRL compute small tiles, and only positions that have a label, if the training is on device "cpu"."""
    if device != "cpu":
        yield
        return
    import trl.kernels.chunked_logprob as kernel  # here: the memory plan reads the figures above, and TRL loads slowly
    import trl.trainer.utils as caller

    before = (kernel.TOKEN_CHUNK_SIZE, caller._CHUNKED_LOGPROB_CHUNK_SIZE, caller._use_triton)
    kernel.TOKEN_CHUNK_SIZE = tokens
    # TRL keeps rows of a whole tile's width, even if the vocabulary is smaller.
    caller._CHUNKED_LOGPROB_CHUNK_SIZE = min(words, vocabulary)
    caller._use_triton = lambda _: True  # this module asks it only whether to leave out positions without a label
    try:
        yield
    finally:
        kernel.TOKEN_CHUNK_SIZE, caller._CHUNKED_LOGPROB_CHUNK_SIZE, caller._use_triton = before
