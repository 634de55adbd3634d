"""The number of questions that the gate needs, against simulated candidates that its own tests decide on."""

import numpy as np
import pytest

from loop.config.load import load_config
from loop.evaluation.comparison import Comparison
from loop.evaluation.gate_power import DIFFERENCE, DIFFERENT, POWER, gate_warning, questions_to_see
from loop.evaluation.gate_rules import RULES
from loop.evaluation.sequential_test import CLEAR, evidence
from loop.evaluation.statistics import Z_95

SHARES = [(DIFFERENT + DIFFERENCE) / 2, (DIFFERENT - DIFFERENCE) / 2, 1 - DIFFERENT]
CANDIDATES = 4000


def seen_by_mcnemar(questions: int) -> float:
    """The share of candidates, 5 points better, that rule `improve` accepts."""
    counts = np.random.default_rng(0).multinomial(questions, SHARES, CANDIDATES)
    return float(np.mean([RULES["improve"](Comparison(questions, *map(int, each[:2])), 0.05) for each in counts]))


def seen_as_clear(questions: int) -> float:
    """The share of candidates, 5 points better, that the sequential test calls clearly better at its end."""
    draw = np.random.default_rng(0)
    found = [evidence(draw.choice([1.0, -1.0, 0.0], questions, p=SHARES).tolist(), 0.01) for _ in range(1000)]
    return float(np.mean([each.difference > CLEAR * each.error for each in found]))


def test_so_many_questions_show_five_points() -> None:
    enough = questions_to_see(DIFFERENCE, DIFFERENT, Z_95)
    assert enough == 375
    assert seen_by_mcnemar(enough) == pytest.approx(POWER, abs=0.05)
    assert seen_by_mcnemar(enough // 4) < 0.4
    assert seen_as_clear(questions_to_see(DIFFERENCE, DIFFERENT, CLEAR)) == pytest.approx(POWER, abs=0.05)


@pytest.mark.parametrize(
    ("rule", "said"),
    [("improve", "375, and with fewer it accepts little"), ("not_worse", "375, and with fewer it rejects little")],
)
def test_a_gate_of_few_questions_is_named(rule: str, said: str) -> None:
    config = load_config("easy_vqa", [f"gate.rule={rule}"])
    assert gate_warning(config, 400) is None
    warning = gate_warning(config, 15)
    assert warning is not None
    assert warning.startswith("warning: the gate has 15 questions; a difference of 5 points is likely seen from about")
    assert said in warning


def test_a_gate_that_accepts_everything_needs_no_questions() -> None:
    assert gate_warning(load_config("easy_vqa", ["gate.rule=always"]), 0) is None
