"""The command `evaluate`: one policy of a run that is not running, scored on held-out questions."""

from pathlib import Path
from typing import Any

from loop.config.schema import Config
from loop.context import Stopped
from loop.errors import InputError
from loop.evaluation.answer_questions import STYLES, evaluate_policy
from loop.evaluation.best_of import best_of
from loop.reading.accuracy_log import accuracy
from loop.session import Parts, open_session, work_on
from loop.terminal.console import Console
from store.questions import find_questions
from store.rounds import cold_start_policy, get_policy, served_policy


def evaluate_run(
    config: Config, run_dir: Path, console: Console, number: int | None, split: str, samples: int, reference: int | None
) -> dict[str, Any]:
    """Score one policy of a run that is not running: greedy in both styles, and with `samples` best of so many.

    Without a number the accepted policy; without a reference the cold start's. The teacher is not asked,
    so its key is not needed, and trackers are not told.
    """
    no_teacher = config.teacher.model_copy(update={"enabled": False})
    config = config.model_copy(update={"teacher": no_teacher})
    with work_on(run_dir) as store:
        policy = served_policy(store) if number is None else get_policy(store, number).number
        against = cold_start_policy(store) if reference is None else get_policy(store, reference).number
        if samples and policy == against:
            raise InputError(f"policy {policy} is its own reference: the verifier needs two; give --reference")
        limit = config.evaluation.limit if split == config.evaluation.split else config.gate.limit
        questions = find_questions(store, "split = ? AND answers != '[]' ORDER BY id LIMIT ?", split, limit or -1)
        if not questions:
            raise InputError(f"{run_dir} has no question of split {split!r}")
        try:
            with open_session(store, config, run_dir, console, Parts(), "evaluate") as (ctx, _):
                evaluate_policy(ctx, policy, None, split, questions, STYLES)
                figures = best_of(ctx, policy, against, split, questions, samples) if samples else []
        except Stopped:
            raise KeyboardInterrupt from None
        accuracies = {style: accuracy(store, policy, style, split) for style in STYLES}
        return {"policy": policy, "split": split, "accuracy": accuracies, "reference": against, "best_of": figures}
