"""Votes and verifier scores over K chains of a question."""

import math

from hypothesis import given
from hypothesis import strategies as st

from loop.evaluation.best_of import Ballot, chosen_by, weighted_votes

SCORES = st.floats(-50, 50, allow_nan=False)
BALLOTS = st.lists(
    st.builds(Ballot, st.sampled_from(["a", "b", "A", None]), st.booleans(), SCORES), min_size=1, max_size=8
)


def same(left: str, right: str) -> bool:
    return left.casefold() == right.casefold()


def test_equal_scores_make_the_weighted_vote_a_majority_vote() -> None:
    ballots = [Ballot("a", True, 1.0), Ballot("b", False, 1.0), Ballot("A", True, 1.0), Ballot(None, False, 9.0)]
    weights = weighted_votes(ballots, same)
    assert weights[0] == weights[2] == 2 * weights[1]
    assert weights[3] == 0.0
    assert chosen_by(ballots, weights)


def test_a_chain_the_verifier_trusts_outweighs_many_it_does_not() -> None:
    ballots = [Ballot("b", False, -4.0), Ballot("b", False, -4.0), Ballot("a", True, 2.0)]
    assert chosen_by(ballots, weighted_votes(ballots, same))


def test_a_question_nobody_answered_is_wrong() -> None:
    ballots = [Ballot(None, False, 3.0), Ballot(None, False, 4.0)]
    assert not chosen_by(ballots, weighted_votes(ballots, same))


@given(BALLOTS, SCORES)
def test_weighted_votes_ignore_a_shift_of_all_scores(ballots: list[Ballot], shift: float) -> None:
    weights = weighted_votes(ballots, same)
    moved = weighted_votes([Ballot(b.answer, b.correct, b.score + shift) for b in ballots], same)
    total = sum(weights)
    assert all(math.isclose(a, b, rel_tol=1e-6, abs_tol=1e-9 * (1 + total)) for a, b in _shares(weights, moved))
    for one, weight in zip(ballots, weights, strict=True):
        assert (weight > 0.0) <= (one.answer is not None)
        for other, theirs in zip(ballots, weights, strict=True):
            if one.answer and other.answer and same(one.answer, other.answer):
                assert weight == theirs


def _shares(left: list[float], right: list[float]) -> list[tuple[float, float]]:
    return [(a / (max(left) or 1.0), b / (max(right) or 1.0)) for a, b in zip(left, right, strict=True)]
