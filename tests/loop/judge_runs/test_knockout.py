"""A knockout among candidates, by a judge that compares two."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from loop.judge_runs.knockout import knockout

TEXTS = st.lists(st.text("abc", max_size=3), max_size=9)


def by_length(matches: Sequence[tuple[int, str, str]]) -> list[float]:
    """A judge that prefers the longer text, and neither of two that are equally long."""
    return [0.5 if len(first) == len(second) else float(len(first) > len(second)) for _, first, second in matches]


@given(st.lists(TEXTS, max_size=5))
def test_a_judge_with_an_order_picks_the_best_of_every_question(candidates: list[list[str]]) -> None:
    winners = knockout(candidates, by_length)
    for texts, winner in zip(candidates, winners, strict=True):
        assert (winner is None) == (not texts)
        if winner is not None:
            assert len(winner) == max(map(len, texts))


@given(st.lists(TEXTS, max_size=5))
def test_a_knockout_takes_one_match_less_than_distinct_texts(candidates: list[list[str]]) -> None:
    asked = 0

    def count(matches: Sequence[tuple[int, str, str]]) -> list[float]:
        nonlocal asked
        asked += len(matches)
        return [0.0] * len(matches)

    knockout(candidates, count)
    assert asked == sum(max(0, len(set(texts)) - 1) for texts in candidates)


def test_the_first_goes_on_where_the_judge_prefers_neither() -> None:
    assert knockout([["b", "a", "c"]], lambda matches: [0.5] * len(matches)) == ["b"]


def test_matches_name_the_question_that_they_belong_to() -> None:
    seen = list[tuple[int, str, str]]()

    def note(matches: Sequence[tuple[int, str, str]]) -> list[float]:
        seen.extend(matches)
        return [0.0] * len(matches)

    assert knockout([["a", "b"], [], ["c", "d"]], note) == ["b", None, "d"]
    assert seen == [(0, "a", "b"), (2, "c", "d")]
