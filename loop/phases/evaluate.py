"""Phase `evaluate`: a policy's greedy answers to the questions that accuracy is reported on.

They belong to split `test`, in the trained, guarded and configured styles. The gate uses another split, because
accuracy on questions that are used for a choice is biased upwards.
"""

from loop.context import Context
from loop.evaluation.reported import evaluate_reported
from store.rounds import Round


def evaluate(ctx: Context, round_: Round) -> None:
    """Evaluate the round's candidate; in round 0 the base model first, so that the log shows the start."""
    if round_.number == 0:
        evaluate_reported(ctx, round_.serving_policy, 0)
    if round_.candidate_policy is not None:
        evaluate_reported(ctx, round_.candidate_policy, round_.number)
