"""The split of a question: train, gate or test."""

import hashlib
import json

from loop.config.schema import QuestionsConfig

SPLITS = ("train", "gate", "test")


def held_out_split(content: list[str], config: QuestionsConfig) -> str:
    """The split of a question by a hash of its content, in the shares that the configuration wants."""
    fraction = int.from_bytes(hashlib.sha256(json.dumps(content).encode()).digest()[:8]) / 2**64
    if fraction < config.held_out_share:
        return "test"
    return "gate" if fraction < config.held_out_share + config.gate_share else "train"
