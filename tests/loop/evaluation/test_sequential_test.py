"""The sequential test: what it decides, when it stops, and how often it errs."""

import random
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loop.evaluation.sequential_test import decide, evidence, looks, mean_of_units, sequential_test

DIFFERENCES = st.lists(st.sampled_from([-1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5]), min_size=1, max_size=300)


@given(st.integers(1, 5000), st.integers(1, 20000))
def test_looks_grow_and_end_with_every_question(first: int, questions: int) -> None:
    counts = looks(first, questions)
    assert counts == sorted(set(counts))
    assert counts[-1] == questions
    assert all(count == first * 2**n for n, count in enumerate(counts[:-1]))


@given(DIFFERENCES)
def test_the_last_look_decides_for_the_nearer_hypothesis(seen: list[float]) -> None:
    found = evidence(seen, 0.01)
    assert decide(found, 0.05, last=True) == ("accept" if found.difference >= -0.005 else "reject")
    assert found.error > 0.0


@given(DIFFERENCES)
def test_gains_favour_a_candidate_and_losses_count_against_it(seen: list[float]) -> None:
    assert evidence([*seen, 1.5], 0.01).difference >= evidence(seen, 0.01).difference
    mirrored = evidence([-each for each in seen], 0.01)
    assert mirrored.difference == pytest.approx(-evidence(seen, 0.01).difference)
    assert mirrored.error == pytest.approx(evidence(seen, 0.01).error)


def test_clear_gains_and_losses_are_decided_at_the_first_look() -> None:
    assert decide(evidence([1.0] * 40 + [0.0] * 460, 0.01), 0.05, last=False) == "accept"
    assert decide(evidence([-1.0] * 40 + [0.0] * 460, 0.01), 0.05, last=False) == "reject"
    assert decide(evidence([1.0, -1.0] * 20 + [0.0] * 460, 0.01), 0.05, last=False) == "open"


def test_policies_with_equal_answers_are_equal_in_the_end() -> None:
    assert decide(evidence([0.0] * 1000, 0.01), 0.05, last=False) == "accept"


def first(differences: list[float], count: int) -> list[float]:
    return differences[:count]


def test_questions_are_asked_until_one_policy_is_clearly_better() -> None:
    equal = [1.0, -1.0] * 4 + [0.0] * 992  # accepted at once, and nobody knows which is better
    accepted, seen = sequential_test(partial(first, equal), 500, 1000, 0.01, 0.05)
    assert (accepted, seen.questions) == (True, 1000)
    clear = [1.0] * 40 + [0.0] * 960
    assert sequential_test(partial(first, clear), 500, 1000, 0.01, 0.05)[1].questions == 500


def test_later_questions_outweigh_an_earlier_look() -> None:
    turning = [1.0] * 5 + [-1.0] + [0.0] * 494 + [-1.0] * 60 + [0.0] * 440
    assert decide(evidence(turning[:500], 0.01), 0.05, last=False) == "accept"
    accepted, seen = sequential_test(partial(first, turning), 500, 1000, 0.01, 0.05)
    assert (accepted, seen.questions) == (False, 1000)


def test_no_question_is_no_evidence() -> None:
    with pytest.raises(ValueError, match="no question"):
        evidence([], 0.01)


@pytest.mark.parametrize(("worth", "least", "most"), [(-0.03, 0.0, 0.02), (-0.01, 0.0, 0.3), (0.0, 0.75, 1.0)])
def test_error_rates_on_2400_questions_with_6_percent_different(worth: float, least: float, most: float) -> None:
    rng, accepted = random.Random(0), 0
    weights = [(0.06 + worth) / 2, (0.06 - worth) / 2, 0.94]
    for _ in range(200):
        differences = rng.choices([1.0, -1.0, 0.0], weights, k=2400)
        accepted += sequential_test(partial(first, differences), 500, 2400, 0.01, 0.05)[0]
    assert least <= accepted / 200 <= most


def test_questions_of_a_unit_count_once_by_their_mean() -> None:
    assert mean_of_units([1.0, 0.0, -1.0, 0.5], ["a", "b", "a", 3]) == [0.0, 0.0, 0.5]
    assert mean_of_units([1.0, -1.0], [1, 2]) == [1.0, -1.0]
