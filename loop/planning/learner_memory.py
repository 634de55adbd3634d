"""Memory of the learner: training and scoring one batch, from explicit figures."""

from dataclasses import dataclass

from loop.planning.activations import FLOAT32, FULL, Precision, kept, working
from loop.planning.memory import MIB, Memory, memory
from loop.planning.model_shape import ModelShape
from policies.learner.heap import LARGEST_THRESHOLD, OWN_MAPPING
from policies.learner.output_layer import TILE_TOKENS, TILE_WORDS

ADAMW_BYTES = 8
"""AdamW's two moments in float32, per trained parameter."""

TILE = {"cpu": (TILE_TOKENS, TILE_WORDS), "cuda": (4096, 32768)}
"""Tokens and words per tile in which TRL 1.16 computes the output layer (`trl/kernels/chunked_logprob.py`)."""

TILES = {"cpu": 8.25, "cuda": 1.0}
"""Tiles held at once in the output layer's backward pass. One kernel does it on CUDA; PyTorch's own operations keep the
product, the logits, log-probabilities, probabilities, the gradient, two steps of it, and a mask of one byte."""

HOLES = {"cpu": 0.3, "cuda": 0.1}
"""Memory lost between tensors, as a share of the activations, per tower. On a CPU, glibc's `posix_memalign` (2.36) does
not give a freed block to a tensor of the same size. Measured on a text model, and on a vision-language model (twice the
share); on CUDA not yet."""

HOLES_MUCH_FREED, HOLES_GIVEN_BACK = 0.9, 0.1
"""The same with adapters, which free the base layer's output after every sum, and with checkpointing, which frees every
layer's tensors twice; and where `policies/learner/heap.py` has them given back at once."""

HEAP_LARGEST = LARGEST_THRESHOLD
"""Larger tensors are given back to the system at once and leave no holes."""

LIBRARIES = {"training": 38 * MIB, "adapters": 10 * MIB, "scoring": 18 * MIB}
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
    tiles = TILES[device] * _tile(shape, batch, precision, device)
    states = batch.sequences * batch.completion * shape.text.hidden * (precision.compute + FLOAT32)
    head = 0 if lora_rank else shape.head * FLOAT32
    # At the end an embedding that is the output layer too has a second gradient.
    embedding = shape.head * precision.weights if shape.tied and not lora_rank else 0
    saves = bool(lora_rank) or checkpointing
    holes = _holes(shape, batch, precision, device, activations, saves=saves)
    if not saves and tiles < HEAP_LARGEST * TILES[device]:
        holes += tiles * HOLES[device]
    libraries = LIBRARIES["training"] + (LIBRARIES["adapters"] if lora_rank else 0) if device == "cpu" else 0
    # What the first layer of the backward pass holds; with checkpointing a layer's tensors are counted already.
    activations += 0 if checkpointing else working(shape.text, batch.rows * batch.row, precision)
    parts = {
        "weights": weights,
        "weights for autocast": copies,
        "reference": weights if reference else 0,
        "gradients": gradients,
        "optimizer": optimizer,
        "activations": activations,
        "output layer": tiles + states + head,
        "allocator": holes,
        "libraries": libraries,
    }
    always = weights + parts["reference"] + optimizer + copies + libraries
    begins = activations + parts["output layer"] + holes + (gradients if accumulates else 0)
    return memory(parts, always + max(begins, gradients + embedding))


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


def _tile(shape: ModelShape, batch: Batch, precision: Precision, device: str) -> int:
    """Bytes of a tile of logits."""
    tokens, words = TILE[device]
    logits = min(batch.sequences * batch.completion, tokens) * min(shape.vocabulary, words)
    return logits * (precision.compute if device == "cuda" else FLOAT32)


def _holes(
    shape: ModelShape, batch: Batch, precision: Precision, device: str, activations: float, *, saves: bool
) -> float:
    """Memory lost between the tensors of the layers; `saves`: with adapters or checkpointing."""
    if device == "cpu" and saves:
        given_back = batch.rows * batch.row * shape.text.hidden * precision.compute >= OWN_MAPPING
        return activations * (HOLES_GIVEN_BACK if given_back else HOLES_MUCH_FREED)
    towers = 2 if device == "cpu" and shape.vision else 1
    return activations * HOLES[device] * towers
