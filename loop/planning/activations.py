"""Memory of activations: the tensors that a transformer's layers keep for the backward pass.

Per token and layer (PyTorch 2.13, transformers 5, attention by `scaled_dot_product_attention`;
`tests/loop/planning/test_activations.py` counts what autograd keeps):

- a norm's input, and a linear layer's input from it. An RMS norm works in float32 and also keeps its normalised
  input if its own weight is trained.
- query, key, value and the attention's output: keys and values are repeated for every query head.
- of a gated MLP the gate before and after its activation, the other half, and their product; of a plain one two.
"""

from dataclasses import dataclass

from loop.planning.model_shape import Tower

FLOAT32 = 4


@dataclass(frozen=True)
class Precision:
    """Bytes of a weight, and of a number in matrix products (2 under autocast, or with bfloat16 weights)."""

    weights: int = FLOAT32
    compute: int = FLOAT32


FULL = Precision()
"""Float32 throughout."""


def kept_by_layer(tower: Tower, precision: Precision, lora_rank: int = 0) -> int:
    """Bytes per token that one layer keeps; with adapters the norms' weights are not trained."""
    weights, compute = precision.weights, precision.compute
    if tower.rms_norm:
        normalised = 0 if lora_rank else weights
        norm = (FLOAT32 + normalised + compute) * tower.hidden
        heads = (FLOAT32 + normalised) * (tower.attention + tower.keys) if tower.head_norm else 0
    else:
        norm, heads = (weights + compute) * tower.hidden, 0
    attention = 4 * tower.attention * compute
    mlp = (4 if tower.gated else 2) * tower.mlp * compute
    adapters = (7 if tower.gated else 6) * lora_rank * compute
    return tower.norms * norm + heads + attention + mlp + adapters


def kept(tower: Tower, tokens: int, precision: Precision, lora_rank: int = 0, *, checkpointing: bool = False) -> int:
    """Bytes that a tower keeps for this many tokens.

    With gradient checkpointing every layer keeps its input, and one layer at a time is computed again.
    """
    layer = kept_by_layer(tower, precision, lora_rank)
    if checkpointing:
        return tokens * (tower.layers * tower.hidden * precision.weights + layer)
    return tokens * tower.layers * layer


def working(tower: Tower, tokens: int, precision: Precision) -> int:
    """Bytes that one layer holds while it computes: its input, its norm's output, and three of the MLP's tensors."""
    return tokens * (2 * tower.hidden * precision.weights + 3 * tower.mlp * precision.compute)
