"""Which samples become pairs."""

import random
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loop.config.schema import SamplingConfig
from loop.config.update import PairsConfig
from loop.evaluation.seeds import sample_seed
from loop.questions.answer_shares import AnswerShares, information
from loop.training.choose_pairs import choose
from loop.training.pair_candidates import QuestionSamples, with_votes
from loop.training.pair_rules import (
    PAIR_RULES,
    JudgedSample,
    best_worst,
    contrast,
    likeliest,
    margin,
    most_vs_least_voted,
    shortest_right,
)
from store import open_store
from store.new_questions import NewQuestion, add_questions

OUTCOMES = st.sampled_from(["correct", "wrong", "unparsable", "truncated", "judge_error"])


def sample(number: int, outcome: str, ids: Sequence[int] = (1, 2), votes: int = 0, copies: int = 1) -> JudgedSample:
    score = 1.0 if outcome == "correct" else 0.0
    return JudgedSample(number, f"text {number}", tuple(ids), outcome, score, None, copies, votes, 0.0, float(number))


@st.composite
def questions(draw: st.DrawFn) -> list[JudgedSample]:
    rows = draw(st.lists(st.tuples(OUTCOMES, st.lists(st.integers(0, 5), min_size=1, max_size=6)), max_size=10))
    return [
        sample(n, outcome, ids, votes=n % 4)._replace(win_rate=n % 3 / 2 if n % 5 else None)
        for n, (outcome, ids) in enumerate(rows)
    ]


def own(samples: list[JudgedSample], taught: list[JudgedSample] | None = None) -> QuestionSamples:
    passed = sum(s.outcome == "correct" for s in samples) / max(1, len(samples))
    return QuestionSamples(1, samples, taught or [], passed)


@given(questions(), st.integers(1, 4), st.sampled_from(sorted(PAIR_RULES)), st.integers(0, 3))
def test_every_rule_keeps_to_its_samples_its_limit_and_its_seed(
    samples: list[JudgedSample], most: int, rule: str, seed: int
) -> None:
    pairs = PAIR_RULES[rule](samples, most, random.Random(seed))
    assert pairs == PAIR_RULES[rule](samples, most, random.Random(seed))
    assert len(pairs) <= most
    known = {s.id: s for s in samples}
    for each in pairs:
        assert each.chosen != each.rejected
        assert 0.0 < each.weight <= 1.0
        if rule not in ("vote", "judged", "shortest_right"):
            assert known[each.chosen].outcome == "correct"
            assert known[each.rejected].outcome == "wrong"
    if rule != "all":
        assert len({p.chosen for p in pairs}) == len(pairs) == len({p.rejected for p in pairs})


@given(questions(), st.integers(0, 4))
def test_right_is_chosen_wrong_is_rejected_nothing_else_is_used(samples: list[JudgedSample], most: int) -> None:
    pairs = choose(own(samples), PairsConfig(per_question=most), True, random.Random(0))
    assert len(pairs) <= most
    for each in pairs:
        assert samples[each.chosen].outcome == "correct"
        assert samples[each.rejected].outcome == "wrong"


def test_judged_pairs_follow_win_rates_and_not_verdicts() -> None:
    rates = [0.25, 1.0, None, 0.75, 0.0]
    samples = [sample(n, "wrong")._replace(win_rate=rate) for n, rate in enumerate(rates)]
    settings = PairsConfig(rule="judged", judge_run="runs/judge", per_question=2)
    found = choose(own(samples), settings, False, random.Random(0))
    assert [(each.chosen, each.rejected, each.weight) for each in found] == [(1, 4, 1.0), (3, 0, 0.5)]
    equal = [each._replace(win_rate=0.5) for each in samples]
    assert choose(own(equal), settings, False, random.Random(0)) == []


def test_the_band_leaves_out_too_easy_and_too_hard_questions() -> None:
    settings = PairsConfig(band=[0.25, 0.85])

    def count(right: int) -> int:
        rows = [sample(n, "correct" if n < right else "wrong") for n in range(8)]
        return len(choose(own(rows), settings, False, random.Random(0)))

    assert [count(right) for right in (0, 1, 2, 6, 7, 8)] == [0, 0, 2, 2, 0, 0]


def test_teacher_chains_are_paired_only_for_unsolved_questions() -> None:
    wrong, taught = sample(1, "wrong"), sample(2, "correct")
    solved = choose(own([sample(0, "correct"), wrong], [taught]), PairsConfig(), True, random.Random(0))
    assert [(p.chosen, p.rejected, p.rule) for p in solved] == [(0, 1, "random")]
    unsolved = choose(own([wrong], [taught]), PairsConfig(), True, random.Random(0))
    assert [(p.chosen, p.rejected, p.rule) for p in unsolved] == [(2, 1, "fallback")]
    assert choose(own([wrong], [taught]), PairsConfig(), False, random.Random(0)) == []


def test_contrast_takes_the_pair_that_differs_least() -> None:
    right = [sample(0, "correct", (1, 2, 3, 4)), sample(1, "correct", (7, 8, 9))]
    wrong = [sample(2, "wrong", (5, 5, 5, 5)), sample(3, "wrong", (1, 2, 9, 4))]
    (pair,) = contrast([*right, *wrong], 1, random.Random(0))
    assert (pair.chosen, pair.rejected) == (0, 3)


def test_vote_pairs_most_and_least_voted_by_the_margin() -> None:
    samples = [
        sample(0, "wrong", votes=5, copies=3),
        sample(1, "wrong", votes=5, copies=2),
        sample(2, "correct", votes=1),
    ]
    pairs = most_vs_least_voted(samples, 1, random.Random(0))
    (pair,) = pairs
    assert (pair.chosen in (0, 1), pair.rejected) == (True, 2)
    assert pair.weight == pytest.approx(4 / 6)
    assert (
        most_vs_least_voted(
            [sample(0, "wrong", votes=2), sample(1, "wrong", votes=2)],
            1,
            random.Random(0),
        )
        == []
    )


def test_only_chains_that_came_to_an_answer_vote(tmp_path: Path) -> None:
    store = open_store(tmp_path, create=True)
    add_questions(store, [NewQuestion("which?", ["b"], [], "train", "jsonl", "exact")])
    cut_off = sample(0, "truncated", copies=5)._replace(extracted="A cat")
    samples = [
        cut_off,
        *(sample(n, "wrong")._replace(extracted=text) for n, text in ((1, "a cat"), (2, "Cat"), (3, "b"))),
    ]
    counted = with_votes(store, QuestionSamples(1, samples, [], 0.0))
    assert [each.votes for each in counted] == [0, 2, 2, 1]
    (pair,) = most_vs_least_voted(counted, 1, random.Random(0))
    assert (pair.chosen in (1, 2), pair.rejected) == (True, 3)
    store.close()


def test_likeliest_pairs_the_likeliest_right_and_wrong_chains() -> None:
    right = [sample(n, "correct")._replace(logprob=value) for n, value in ((0, -9.0), (1, -0.5), (2, -3.0))]
    wrong = [sample(n, "wrong")._replace(logprob=value) for n, value in ((3, -2.0), (4, -8.0), (5, None))]
    pairs = likeliest([*right, *wrong], 3, random.Random(0))
    assert [(p.chosen, p.rejected) for p in pairs] == [(1, 3), (2, 4), (0, 5)]


def test_best_worst_drops_ties_shortest_right_needs_all_right() -> None:
    assert best_worst([sample(0, "correct"), sample(1, "correct")], 2, random.Random(0)) == []
    lengths = [sample(n, "correct", range(n + 2)) for n in range(4)]
    assert [(p.chosen, p.rejected) for p in shortest_right(lengths, 2, random.Random(0))] == [(0, 3), (1, 2)]
    (mixed,) = shortest_right([lengths[0], sample(9, "wrong", (1,))], 2, random.Random(0))
    assert (mixed.chosen, mixed.rejected) == (0, 9)


def test_margin_prefers_what_the_verifier_likes_on_both_sides() -> None:
    samples = [sample(n, "correct" if n % 2 else "wrong") for n in range(6)]
    (pair,) = margin(samples, 1, random.Random(0))
    assert (pair.chosen, pair.rejected) == (5, 4)


def test_information_weight_is_1_for_the_rarest_answer() -> None:
    shares = AnswerShares({"yes": 0.4, "no": 0.4, "red": 0.1, "teal": 0.02})
    assert information(["Teal"], shares) == pytest.approx(1.0)
    assert information(["yes"], shares) < information(["red"], shares) < 1.0
    assert information(["yes", "no"], shares) < 0.1
    assert information(["never seen"], shares) == pytest.approx(1.0)
    assert information([], shares) == information(["yes"], AnswerShares({})) == 1.0


def test_a_temperature_schedule_ends_on_its_last_step() -> None:
    schedule = SamplingConfig(temperature=[0.8, 1.3])
    assert [schedule.temperature_of(n) for n in (1, 2, 3, 9)] == [0.8, 1.3, 1.3, 1.3]
    assert SamplingConfig(temperature=0.7).temperature_of(5) == 0.7


def test_seeds_differ_by_run_round_question_and_index() -> None:
    keys = [(r, n, q, i) for r in range(3) for n in range(3) for q in range(20) for i in range(8)]
    seeds = [sample_seed(*key) for key in keys]
    assert len(set(seeds)) == len(keys)
    assert all(0 <= seed < 2**31 for seed in seeds)
    assert sample_seed(0, 1, 2, 3) == seeds[keys.index((0, 1, 2, 3))]
