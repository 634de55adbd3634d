"""`reasoning_gym`: the scoring function that a reasoning-gym task brings (github.com/open-thought/reasoning-gym)."""

import importlib.util
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from judges.errors import JudgeError

EXTRA = "smollm2"

ONE_ANSWER = (
    *("acre", "aiw", "arc_1d", "base_conversion", "basic_arithmetic", "bf", "binary_alternation", "caesar_cipher"),
    *("count_bits", "count_primes", "course_schedule", "gcd", "isomorphic_strings", "largest_island", "lcm"),
    *("leg_counting", "letter_counting", "list_functions", "mahjong_puzzle", "maze", "modulo_grid"),
    *("number_filtering", "number_sequence", "ransom_note", "rotate_matrix", "rotten_oranges", "simple_equations"),
    *("simple_geometry", "string_manipulation", "string_splitting", "string_synthesis", "syllogism"),
    "word_sequence_reversal",
)
"""Tasks of version 0.1.25 with the package's common scorer: equal to the accepted answer, or partly if it is in it."""

OWN_RULE = ("chain_sum", "decimal_chain_sum", "products", "spell_backward")
"""Tasks with their own scorer that needs only the accepted answer."""

TASKS = tuple(sorted((*ONE_ANSWER, *OWN_RULE)))


def reasoning_gym(answer: str, accepted: Sequence[str], *, task: str = "") -> float:
    """The score of the package's `score_answer` for this task, the best over the accepted answers.

    Only tasks whose scorer needs only the accepted answer: the others need the data from which the puzzle was
    made, which is not stored. Raises JudgeError("reasoning_gym_error") if the scorer raises.
    """
    try:
        scores = [float(_scorer(task)(answer, {"answer": each})) for each in accepted]
    except Exception as error:
        raise JudgeError("reasoning_gym_error") from error
    return min(1.0, max(scores, default=0.0))


def check_task(task: str) -> None:
    """Raises ValueError for a task that cannot be judged here, or if the package is not installed."""
    if task not in TASKS:
        why = "is unknown, or its scorer needs more than the accepted answer" if task else "is missing"
        raise ValueError(f"task {task!r} {why}; known: {', '.join(TASKS)}")
    if importlib.util.find_spec("reasoning_gym") is None:
        raise ValueError(f"reasoning-gym is not installed; install the extra '{EXTRA}' (docs/recipes.md)")


@cache
def _scorer(task: str) -> Callable[[str, dict[str, Any]], float]:
    # Not at the top: importing the package takes a second.
    from reasoning_gym import get_score_answer_fn

    score: Callable[[str, dict[str, Any]], float] = get_score_answer_fn(task)
    return score
