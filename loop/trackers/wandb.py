"""Weights & Biases: online, or as `WANDB_MODE` says; `wandb sync` sends an offline run later."""

import wandb

from loop.trackers import GLOBAL_STEP, GROUPS, ROUND, Report, Target
from loop.trackers.ledger import Ledger


class Wandb:
    """One W&B run for all sessions, found by its id. Only figures and the configuration are sent."""

    def __init__(self, target: Target) -> None:
        folder = target.run_dir / "tracking"
        self._ledger = Ledger(folder / "wandb.sent")
        self._run = wandb.init(
            project=target.project,
            name=target.name,
            id=target.id,
            resume="allow",
            dir=str(folder),
            config=target.configuration,
            settings=wandb.Settings(
                console="off",
                silent=True,
                disable_git=True,
                disable_code=True,
                x_disable_stats=True,
                x_disable_machine_info=True,
            ),
        )
        for group in GROUPS:
            self._run.define_metric(f"{group}/*", step_metric=ROUND)
        self._run.define_metric("train/*", step_metric=GLOBAL_STEP)

    def has(self, name: str) -> bool:
        """Whether it is in the ledger."""
        return name in self._ledger

    def send(self, report: Report) -> None:
        """Send the figures with their axis, because W&B counts its own steps."""
        self._ledger.add(report.name)
        for x, figures in report.points:
            self._run.log({**figures, report.axis: x})

    def close(self) -> None:
        """Flush pending reports."""
        self._run.finish()
