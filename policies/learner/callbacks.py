"""Callbacks of a training: progress, divergence, checkpoints, and a warm-up whose first step is not lost."""

import math
from collections.abc import Callable
from typing import Any

from transformers import TrainerCallback

from policies import PolicyError
from policies.learner.checkpoints import Checkpoints

Progress = Callable[[int, int, float | None], None]
"""(steps done, steps in all, latest loss) -> None."""


class TrainingDiverged(PolicyError):
    """The loss or the weights are not numbers any more: there is nothing to publish."""


class TrainingStopped(PolicyError):
    """The training was asked to stop; with checkpoints it has written one."""


class WarmUpFromFirstStep(TrainerCallback):  # type: ignore[misc]
    """Warms up over steps 1 to `warmup`, the last of them at the full rate.

    transformers counts them from 0, so its first step has rate 0: an update of a single step would change nothing.
    """

    def on_train_begin(self, args: Any, state: Any, control: Any, **parts: Any) -> None:
        warmup = args.get_warmup_steps(state.max_steps)
        scheduler = getattr(parts["lr_scheduler"], "scheduler", parts["lr_scheduler"])
        if not warmup or any(shape(0) > 0 for shape in scheduler.lr_lambdas):
            return  # nothing to warm up, or a schedule without warm-up
        scheduler.lr_lambdas = [_warmed_up(shape, warmup) for shape in scheduler.lr_lambdas]
        if scheduler.last_epoch > 0:
            return  # a training that goes on: its optimizer has the rate of the next step already
        rates = zip(scheduler.optimizer.param_groups, scheduler.base_lrs, scheduler.lr_lambdas, strict=True)
        for group, rate, shape in rates:
            group["lr"] = rate * shape(0)
        scheduler._last_lr = [group["lr"] for group in scheduler.optimizer.param_groups]  # what the trainer logs


def _warmed_up(shape: Callable[[int], float], warmup: int) -> Callable[[int], float]:
    return lambda step: (step + 1) / warmup if step < warmup else shape(step)


class Watch(TrainerCallback):  # type: ignore[misc]
    """Tells how far the training is, ends one that diverges, and has checkpoints written.

    Where `report` raises, as it does when the user asks to stop, a checkpoint is written before that goes on.
    """

    def __init__(self, report: Progress, checkpoints: Checkpoints) -> None:
        self._report, self._checkpoints = report, checkpoints
        self._stop: Exception | None = None

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._checkpoints.epoch_begins(state)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        latest = state.log_history[-1].get("loss") if state.log_history else None
        try:
            self._report(state.global_step, state.max_steps, latest)
        except Exception as stop:
            self._stop = stop

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any], **_: Any) -> None:
        """Called after every step, when its figures are in the trainer's log."""
        if "loss" not in logs:
            return
        if not math.isfinite(loss := float(logs["loss"])):
            raise TrainingDiverged(
                f"training diverged: the loss is {loss} at step {state.global_step} of {state.max_steps}"
                f" (learning rate {args.learning_rate:g})"
            )
        if state.global_step >= state.max_steps:
            return  # the end; a user's wish to stop is asked for again where everything is committed
        stop, save = self._checkpoints.wanted(stopping=self._stop is not None)
        if save:
            self._checkpoints.save()
        if stop:
            raise self._stop or TrainingStopped("the first process was asked to stop")
