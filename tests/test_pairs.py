"""Which samples become pairs."""

import random

from hypothesis import given
from hypothesis import strategies as st

from loop.config import PairsConfig
from loop.pair import choose
from loop.sample import sample_seed

OUTCOMES = st.sampled_from(["correct", "wrong", "unparsable", "truncated", "judge_error"])
SAMPLES = st.lists(st.tuples(st.text(max_size=3), st.sampled_from(["policy", "teacher"]), OUTCOMES), max_size=12)


@given(SAMPLES, st.integers(1, 4))
def test_right_is_chosen_wrong_is_rejected_nothing_else_is_used(rows: list[tuple[str, str, str]], most: int) -> None:
    samples = [(n, text, author, outcome) for n, (text, author, outcome) in enumerate(rows)]
    pairs = choose(samples, PairsConfig(per_question=most), random.Random(0))
    assert len(pairs) <= most
    assert len({chosen for chosen, _, _ in pairs}) == len(pairs) == len({rejected for _, rejected, _ in pairs})
    for chosen, rejected, rule in pairs:
        assert samples[chosen][3] == "correct"
        assert samples[rejected][2:] == ("policy", "wrong")
        assert samples[chosen][2] == ("teacher" if rule == "fallback" else "policy")


def test_the_band_leaves_out_questions_that_are_too_easy_or_too_hard() -> None:
    settings = PairsConfig(band=[0.25, 0.85])

    def count(right: int) -> int:
        rows = [(n, str(n), "policy", "correct" if n < right else "wrong") for n in range(8)]
        return len(choose(rows, settings, random.Random(0)))

    assert [count(right) for right in (0, 1, 2, 6, 7, 8)] == [0, 0, 2, 2, 0, 0]


def test_the_teacher_steps_in_only_where_no_sample_is_right() -> None:
    solved = [(0, "a", "policy", "correct"), (1, "b", "policy", "wrong"), (2, "c", "teacher", "correct")]
    unsolved = [(1, "b", "policy", "wrong"), (2, "c", "teacher", "correct")]
    assert choose(solved, PairsConfig(), random.Random(0)) == [(0, 1, "random")]
    assert choose(unsolved, PairsConfig(), random.Random(0)) == [(2, 1, "fallback")]


def test_seeds_differ_by_run_round_question_and_index_and_fit_the_sampler() -> None:
    keys = [(r, n, q, i) for r in range(3) for n in range(3) for q in range(20) for i in range(8)]
    seeds = [sample_seed(*key) for key in keys]
    assert len(set(seeds)) == len(keys)
    assert all(0 <= seed < 2**31 for seed in seeds)
    assert sample_seed(0, 1, 2, 3) == seeds[keys.index((0, 1, 2, 3))]
