"""Optimizers by transformers' names, and the packages that they need; nothing heavy is imported here."""

import importlib.util

BITSANDBYTES = (
    *("adamw_8bit", "adamw_bnb_8bit", "ademamix", "ademamix_8bit", "lion_32bit", "lion_8bit"),
    *("paged_adamw_32bit", "paged_adamw_8bit", "paged_ademamix_32bit", "paged_ademamix_8bit"),
    *("paged_lion_32bit", "paged_lion_8bit", "rmsprop_bnb", "rmsprop_bnb_8bit", "rmsprop_bnb_32bit"),
)
"""On CUDA devices; the state of `paged_...` moves to host memory where the device is full."""

ROUNDED = ("adamw_torch", "adamw_torch_fused")
"""AdamW, which is `RoundedAdamW` for bfloat16 weights."""

OPTIMIZERS: dict[str, str] = {
    **dict.fromkeys((*ROUNDED, "adafactor", "adagrad", "rmsprop", "sgd"), "torch"),
    **dict.fromkeys(("adamw_torch_4bit", "adamw_torch_8bit"), "torchao"),
    **dict.fromkeys(BITSANDBYTES, "bitsandbytes"),
}
"""Name -> package. Left out are those that need settings or a training loop of their own (GaLore, APOLLO, LOMO)."""


def missing(name: str) -> str | None:
    """A line for the user that names what an optimizer needs and this machine lacks; None if it can be used."""
    package = OPTIMIZERS[name]
    if importlib.util.find_spec(package) is None:
        lacks = f"the package {package}, which is not installed; install it, or take 'adamw_torch'"
    elif package == "bitsandbytes" and not _has_cuda():
        lacks = "a CUDA device, and this machine has none; take 'adamw_torch'"
    else:
        return None
    return f"learner.optimizer = {name!r} needs {lacks}"


def _has_cuda() -> bool:
    import torch

    return bool(torch.cuda.is_available())
