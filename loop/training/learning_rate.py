"""Lowers the learning rate after rejected rounds: by `gate.learning_rate_factor` per rejection in a row."""

from itertools import takewhile

from loop.config.learner import TrainingConfig
from loop.context import Context
from store.rounds import Round, recent_decisions


def lower_after_rejections(ctx: Context, round_: Round, table: TrainingConfig) -> TrainingConfig:
    """A training table with the learning rate of this round. A round without an update is not a rejection."""
    since_accepted = takewhile(lambda decision: decision != "accepted", recent_decisions(ctx.store, round_.number))
    factor = ctx.config.gate.learning_rate_factor ** list(since_accepted).count("rejected")
    return table.model_copy(update={"learning_rate": table.learning_rate * factor})
