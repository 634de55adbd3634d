"""Intervals, tests and the gate's rules."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loop.evaluation.comparison import Comparison
from loop.evaluation.gate_rules import RULES
from loop.evaluation.statistics import mcnemar_p_value, wilson_interval


def test_wilson_interval_matches_published_values() -> None:
    # Newcombe (1998), table I: 81 of 263 and 0 of 20.
    assert wilson_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)
    assert wilson_interval(0, 20) == pytest.approx((0.0, 0.1611), abs=1e-4)


@given(st.integers(0, 500), st.integers(1, 500))
def test_wilson_interval_holds_the_share(successes: int, trials: int) -> None:
    successes = min(successes, trials)
    low, high = wilson_interval(successes, trials)
    assert 0.0 <= low <= successes / trials + 1e-12
    assert successes / trials - 1e-12 <= high <= 1.0


def test_mcnemar_matches_the_binomial() -> None:
    assert mcnemar_p_value(0, 0) == 1.0
    assert mcnemar_p_value(5, 0) == pytest.approx(2 / 32)
    assert mcnemar_p_value(2, 8) == pytest.approx(mcnemar_p_value(8, 2)) == pytest.approx(0.109375)


@pytest.mark.parametrize(
    ("rule", "gained", "lost", "accepted"),
    [
        ("not_worse", 10, 12, True),
        ("not_worse", 0, 30, False),
        ("not_worse", 0, 0, True),
        ("improve", 30, 0, True),
        ("improve", 12, 10, False),
        ("improve", 0, 30, False),
        ("always", 0, 30, True),
    ],
)
def test_gate_rules(rule: str, gained: int, lost: int, accepted: bool) -> None:
    comparison = Comparison(gained + lost, gained, lost)
    assert RULES[rule](comparison, 0.05) is accepted
