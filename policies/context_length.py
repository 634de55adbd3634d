"""The context length of a model, as vLLM reads it from the model's configuration."""

from typing import Any

LENGTH_KEYS = (
    *("max_position_embeddings", "n_positions", "max_seq_len", "seq_length", "model_max_length"),
    *("max_target_positions", "max_sequence_length", "max_seq_length", "seq_len"),
)
"""The keys that vLLM 0.32 looks at (`ModelArchConfigConvertorBase`); the smallest counts."""

NOT_SCALED = {"su", "longrope", "llama3", "yarn", "deepseek_yarn", "deepseek_llama_scaling"}
"""Kinds of rotary embeddings whose configuration has the length after scaling."""


def context_length(config: Any) -> int | None:
    """The most tokens of prompt and answer together, of a transformers configuration; None where it does not say."""
    text = config.get_text_config()
    lengths = [value for key in LENGTH_KEYS if isinstance(value := getattr(text, key, None), int)]
    if not lengths:
        return None
    return int((getattr(text, "model_max_length", None) or min(lengths)) * _scale(text))


def _scale(text: Any) -> float:
    """By how much rotary embeddings stretch the length; Gemma 3 names it stretched."""
    rope = getattr(text, "rope_parameters", None) or {}
    if "gemma3" in text.model_type or rope.get("rope_type") in NOT_SCALED:
        return 1.0
    return float(rope.get("factor") or 1.0)
