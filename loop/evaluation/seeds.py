"""The seed of every request: a hash of what the request is for."""

import hashlib


def sample_seed(run_seed: int, number: int, question: int, index: int) -> int:
    """The seed of one request: a hash of run seed, round, question and index, in [0, 2**31)."""
    text = f"{run_seed}:{number}:{question}:{index}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4]) >> 1
