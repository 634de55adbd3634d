"""AdamW for bfloat16 weights: steps too small for a weight's eight bits are rounded up or down by chance."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch

CHUNK = 1 << 22
"""Weights of a tensor computed at once in float32: 16 MiB each of weights, moments and noise."""


class RoundedAdamW(torch.optim.Optimizer):  # type: ignore[misc]
    """AdamW (arXiv 1711.05101) in float32 arithmetic on weights and moments of the parameters' own dtype.

    The bfloat16 numbers next to a weight of 0.02 are 0.00012 away. A step of DPO's rate, 5e-7, has no effect if it is
    rounded to the nearest. Rounded stochastically (arXiv 2010.06192), up with probability `distance / spacing`, the
    weights move as float32 weights do in expectation. So is the second moment, which changes by a thousandth a step.
    It takes 8 bytes a bfloat16 parameter with its gradient, where AdamW in float32 takes 16.

    The noise of a step depends on `seed` and the step alone, so a training that goes on from a checkpoint repeats it.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        seed: int = 0,
    ) -> None:
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "seed": seed, "steps": 0}
        super().__init__(params, defaults)

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """One step over every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for number, group in enumerate(self.param_groups):
            group["steps"] += 1
            generators: dict[torch.device, torch.Generator] = {}
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                device = parameter.device
                if device not in generators:
                    seed = (group["seed"] * 1_000_003 + group["steps"]) * 1_009 + number
                    generators[device] = torch.Generator(device).manual_seed(seed)
                self._update(parameter, group, generators[device])
        return loss

    def _update(self, parameter: torch.Tensor, group: dict[str, Any], generator: torch.Generator) -> None:
        state = self.state[parameter]
        if not state:
            state["step"] = torch.tensor(0.0)
            state["exp_avg"] = torch.zeros_like(parameter)
            state["exp_avg_sq"] = torch.zeros_like(parameter)
        state["step"] += 1
        step, (beta1, beta2), rate = float(state["step"]), group["betas"], group["lr"]
        size, scale = rate / (1 - beta1**step), math.sqrt(1 - beta2**step)
        assert parameter.grad is not None
        parts = (parameter, parameter.grad, state["exp_avg"], state["exp_avg_sq"])
        for weight, gradient, first, second in zip(*(part.view(-1).split(CHUNK) for part in parts), strict=True):
            own, slope = weight.float(), gradient.float()
            mean = first.float().lerp_(slope, 1 - beta1)
            square = second.float().mul_(beta2).addcmul_(slope, slope, value=1 - beta2)
            first.copy_(mean)
            own = own.mul(1 - rate * group["weight_decay"])
            own.addcdiv_(mean, (square.sqrt() / scale).add_(group["eps"]), value=-size)
            weight.copy_(rounded(own, weight.dtype, generator))
            second.copy_(rounded(square, second.dtype, generator))


def rounded(values: torch.Tensor, dtype: torch.dtype, generator: torch.Generator) -> torch.Tensor:
    """Float32 values, stochastically rounded if the dtype is bfloat16: each to a neighbour, in expectation itself."""
    if dtype != torch.bfloat16:
        return values.to(dtype)
    noise = torch.randint(1 << 16, values.shape, dtype=torch.int32, device=values.device, generator=generator)
    # A bfloat16 is the upper half of a float32; noise below it carries over as often as what is cut off is large.
    return noise.add_(values.view(torch.int32)).bitwise_and_(-(1 << 16)).view(torch.float32).to(torch.bfloat16)
