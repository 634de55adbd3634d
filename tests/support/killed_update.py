"""An update of two stages by the real trainer, killed at a random moment of its training, and gone on with."""

import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from loop.context import Context, Stage, Stages
from loop.phases.update import update
from loop.training.references import pair_references
from loop.training.stages import dpo, sft
from policies.encoding import Prompt
from policies.learner.items import PairItem, SftItem
from policies.learner.learner import LocalLearner
from store.rounds import get_round
from tests.support.update_session import session

WORDS = ("teal", "a red circle", "yes", "no, it is blue", "brown", "gray triangle there", "no")
STEPS = 48
"""Optimizer steps of both stages together."""


def right(ctx: Context, _: Any) -> Sequence[SftItem]:
    sides = [tuple(ctx.encoder.completion_ids(text)) for text in WORDS]
    return [SftItem(Prompt(f"What is {n}?"), sides[n % 7]) for n in range(16)]


def pairs(ctx: Context, _: Any) -> Sequence[PairItem]:
    items = right(ctx, _)
    return [PairItem(item.prompt, item.completion, items[n - 1].completion) for n, item in enumerate(items)]


TWO_STAGES = Stages(
    (),
    (
        Stage("rft", lambda config: config.rft, right, sft),
        Stage("dpo", lambda config: config.update, pairs, dpo, pair_references),
    ),
)
TABLE = {"batch_size": 4, "epochs": 6.0, "learning_rate": 1e-3, "warmup_ratio": 0.3}
EVERY_STEP = {"checkpoint_minutes": 1e-9}


class Mortal(LocalLearner):
    """A learner whose process is killed after `steps` of its steps, or `seconds` after its first one."""

    steps: int | None = None
    seconds: float | None = None

    def train(self, *arguments: Any) -> Any:
        return super().train(*(*arguments[:-1], self._killing(arguments[-1])))

    def _killing(self, progress: Callable[..., None]) -> Callable[..., None]:
        def report(done: int, total: int, loss: float | None) -> None:
            if self.seconds is not None:
                signal.setitimer(signal.ITIMER_REAL, self.seconds)  # unhandled, its signal kills as SIGKILL does
                self.seconds = None
            if self.steps is not None:
                self.steps -= 1
                if self.steps < 0:
                    os.kill(os.getpid(), signal.SIGKILL)
            progress(done, total, loss)

        return report


def work_on_update(
    model: str,
    run_dir: str,
    steps: int | None = None,
    seconds: float | None = None,
    tables: dict[str, Any] | None = None,
) -> None:
    """Do the update, or what is left of it; the process may be killed after `steps`, or `seconds` of training."""
    Path(run_dir).mkdir(exist_ok=True)

    def make_learner(*arguments: Any, **options: Any) -> Mortal:
        learner = Mortal(*arguments, **options)
        learner.steps, learner.seconds = steps, seconds
        return learner

    tables = {"update": TABLE, "rft": TABLE, "learner": EVERY_STEP, **(tables or {})}
    with session(Path(model), Path(run_dir), TWO_STAGES, make_learner, **tables) as ctx:
        update(ctx, get_round(ctx.store, 2))
        print("\n".join(ctx.reporter.lines))  # type: ignore[attr-defined]
