"""Asks a policy the questions that accuracy is reported on."""

from loop.context import Context
from loop.evaluation.answer_questions import evaluate_policy
from loop.evaluation.reported_styles import reported_styles
from store.questions import find_questions


def evaluate_reported(ctx: Context, policy: int, number: int) -> None:
    """Ask the questions that the policy has not answered yet, in every reported style."""
    settings = ctx.config.evaluation
    usable = "split = ? AND unusable IS NULL ORDER BY id LIMIT ?"
    questions = find_questions(ctx.store, usable, settings.split, settings.limit or -1)
    evaluate_policy(ctx, policy, number, settings.split, questions, reported_styles(ctx.store))
