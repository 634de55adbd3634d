"""Memory of the learner: training and scoring one batch, from explicit figures."""

from dataclasses import dataclass

from loop.planning.activations import FLOAT32, FULL, Precision, kept, working
from loop.planning.memory import MIB, Memory, memory
from loop.planning.model_shape import ModelShape

ADAMW_BYTES = 8
"""AdamW's two moments in float32, per trained parameter."""

TILE_TOKENS, TILE_WORDS = 4096, 32768
"""Tokens and words per tile in which TRL 1.16 computes the output layer (`trl/kernels/chunked_logprob.py`)."""

TILES = {"cpu": 8.25, "cuda": 1.0}
"""Tiles held at once in the output layer's backward pass. One kernel does it on CUDA; PyTorch's own operations keep the
product, the logits, log-probabilities, probabilities, the gradient, two steps of it, and a mask of one byte."""

HOLES = {"cpu": 0.3, "cpu, much freed": 0.9, "cuda": 0.1}
"""Memory lost between tensors, as a share of the activations. On a CPU, glibc's `posix_memalign` (2.36)
does not give a freed block to a tensor of the same size. Adapters free the base layer's output after every sum, and
checkpointing frees every layer's tensors twice.
On CUDA it is not measured yet."""

HEAP_LARGEST = 32 * MIB
"""Larger tensors are given back to the system at once (glibc's M_MMAP_THRESHOLD_MAX) and leave no holes."""

LIBRARIES = {"training": 38 * MIB, "adapters": 10 * MIB, "scoring": 24 * MIB}
"""Memory that PyTorch, TRL, accelerate and peft take at their first use, for any model."""

SCORED_AT_ONCE, LOGITS = 16, 1 << 25
"""Chains in a forward pass of `policies/verifier.py`, and logits that it computes at once."""


@dataclass(frozen=True)
class Batch:
    """The input of one step. `tokens` are the longest sequence's, `completion` those of them that are scored,
    `patches` the image patches of one sequence. `shared` tokens at their beginning, and all patches, are computed once
    for two sequences, which then are one row.
    """

    sequences: int
    tokens: int
    completion: int
    patches: int = 0
    shared: int = 0

    @property
    def rows(self) -> int:
        """Rows that the layers compute."""
        return self.sequences // 2 if self.shared else self.sequences

    @property
    def row(self) -> int:
        """Tokens of a row."""
        return 2 * self.tokens - self.shared if self.shared else self.tokens


def training(
    shape: ModelShape,
    batch: Batch,
    *,
    trained: int,
    precision: Precision = FULL,
    lora_rank: int = 0,
    checkpointing: bool = False,
    accumulates: bool = False,
    reference: bool = False,
    optimizer_bytes: int = ADAMW_BYTES,
    device: str = "cpu",
) -> Memory:
    """The peak of an update. `trained` parameters have gradients and optimizer state.

    `reference`: a second model is held that follows the policy. `accumulates`: gradients stay over several
    batches. The peak is where the backward pass begins, with all activations and the output layer's, or where it ends,
    with all gradients.
    """
    weights = shape.count * precision.weights
    optimizer = trained * optimizer_bytes
    gradients = trained * precision.weights
    # Autocast keeps a copy of every weight in its own type until the step is over.
    copies = shape.count * precision.compute if precision.compute < precision.weights else 0
    activations = _activations(shape, batch, precision, lora_rank, checkpointing=checkpointing)
    head = _head_backward(shape, batch, precision, trains_head=not lora_rank, device=device)
    largest_tile = min(_head_tokens(batch, device), TILE_TOKENS) * min(shape.vocabulary, TILE_WORDS) * FLOAT32
    heap = activations + (head if largest_tile < HEAP_LARGEST else 0)
    holes = heap * HOLES["cpu, much freed" if device == "cpu" and (lora_rank or checkpointing) else device]
    libraries = LIBRARIES["training"] + (LIBRARIES["adapters"] if lora_rank else 0) if device == "cpu" else 0
    parts = {
        "weights": weights,
        "weights for autocast": copies,
        "reference": weights if reference else 0,
        "gradients": gradients,
        "optimizer": optimizer,
        "activations": activations,
        "output layer": head,
        "allocator": holes,
        "libraries": libraries,
    }
    always = weights + parts["reference"] + optimizer + copies + libraries
    begins = activations + head + holes + (gradients if accumulates else 0)
    return memory(parts, always + max(begins, gradients))


def scoring(shape: ModelShape, batch: Batch, *, precision: Precision = FULL, device: str = "cpu") -> Memory:
    """The peak of a forward pass that scores completions; the output layer sees some of their positions at a time."""
    text, tokens = shape.text, batch.rows * batch.row
    positions = min(batch.sequences * batch.completion, max(1, LOGITS // shape.vocabulary))
    layers = working(text, tokens, precision)
    if shape.vision:
        layers += working(shape.vision, batch.rows * batch.patches, precision)
    parts = {
        "weights": shape.count * precision.weights,
        "activations": layers,
        # The logits, their exponentials, and a temporary.
        "output layer": 3 * positions * shape.vocabulary * FLOAT32,
        "allocator": layers * HOLES[device],
        "libraries": LIBRARIES["scoring"] if device == "cpu" else 0,
    }
    return memory(parts)


def _activations(
    shape: ModelShape, batch: Batch, precision: Precision, lora_rank: int, *, checkpointing: bool
) -> float:
    """Kept by both towers, the embeddings and the last norm, and the attention mask."""
    tokens, patches = batch.rows * batch.row, batch.rows * batch.patches
    size = kept(shape.text, tokens, precision, lora_rank, checkpointing=checkpointing)
    size += 3 * tokens * shape.text.hidden * FLOAT32
    size += batch.rows * batch.row**2 * precision.compute
    if shape.vision:
        size += kept(shape.vision, patches, precision, lora_rank, checkpointing=checkpointing)
        size += patches * shape.patch_values * FLOAT32
    return size


def _head_tokens(batch: Batch, device: str) -> int:
    """Positions that TRL's output layer computes: with Triton those of completions only."""
    return batch.sequences * (batch.completion if device == "cuda" else batch.tokens)


def _head_backward(shape: ModelShape, batch: Batch, precision: Precision, *, trains_head: bool, device: str) -> float:
    """Tiles of logits, the hidden states with their gradient, and the gradient of the layer's weights in float32."""
    tokens = _head_tokens(batch, device)
    tile = min(tokens, TILE_TOKENS) * min(shape.vocabulary, TILE_WORDS)
    size = TILES[device] * tile * (precision.compute if device == "cuda" else FLOAT32)
    size += tokens * shape.text.hidden * (precision.compute + FLOAT32)
    return size + (shape.head * FLOAT32 if trains_head else 0)
