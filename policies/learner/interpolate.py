"""Weights between two policies."""

from typing import Any

import torch

from policies.learner.rounded_adamw import rounded


def interpolate(start: Any, end: Any, alpha: float) -> Any:
    """`start` with each weight moved `alpha` of the way to that of `end`, in place (WiSE-FT, arXiv 2109.01903).

    bfloat16 weights are rounded stochastically: to the nearest, a quarter of a step between neighbours would be none.
    Buffers stay those of `start`. Raises KeyError if the models have different parameters.
    """
    ends = dict(end.named_parameters())
    with torch.no_grad():
        for name, parameter in start.named_parameters():
            if parameter.dtype == torch.float32:
                parameter.lerp_(ends[name], alpha)
                continue
            between = parameter.float().lerp_(ends[name].float(), alpha)
            parameter.copy_(rounded(between, parameter.dtype, torch.Generator(parameter.device).manual_seed(0)))
    return start
