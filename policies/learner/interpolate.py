"""Weights between two policies."""

from typing import Any

import torch


def interpolate(start: Any, end: Any, alpha: float) -> Any:
    """`start` with each weight moved `alpha` of the way to that of `end`, in place (WiSE-FT, arXiv 2109.01903).

    Buffers stay those of `start`. Raises KeyError if the models have different parameters.
    """
    ends = dict(end.named_parameters())
    with torch.no_grad():
        for name, parameter in start.named_parameters():
            parameter.lerp_(ends[name], alpha)
    return start
