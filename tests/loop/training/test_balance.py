"""Counter-pairs: a round's pairs say as much for an answer as against it, where it has solved questions enough."""

import random
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loop.config.load import load_config
from loop.context import Context
from loop.phases.pair import pair
from loop.reading.answer_balance import answer_balance
from loop.terminal.console import Console
from loop.training.balance import Solved, counter_pairs, directions, missing, swap_answer
from loop.training.pair_rules import JudgedSample
from policies.encoding import Encoder
from store import Store, open_store
from store.evaluations import NewEvaluation, add_evaluations
from store.new_questions import NewQuestion, add_questions
from store.pairs import NewPair
from store.rounds import Policy, add_policy, get_round, start_round
from store.samples import NewSample, NewVerdict, add_samples, add_verdicts
from store.training import NewTraining, record_candidate
from tests.support.command_line import BASE_MODEL

ANSWERS = ("yes", "no", "red", "blue")
SPELLINGS = {answer: answer for answer in ANSWERS}


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    def no_image(digest: str) -> object:
        raise AssertionError(digest)

    return Encoder(str(BASE_MODEL), no_image)  # type: ignore[arg-type]


def chain(encoder: Encoder, answer: str) -> tuple[int, ...]:
    return tuple(encoder.completion_ids(f"There is a circle.\n### Answer: {answer}"))


def solved(encoder: Encoder, number: int, answer: str) -> Solved:
    ids = chain(encoder, answer)
    return number, JudgedSample(number, encoder.text(ids), ids, "correct", 1.0, answer, logprob=-1.0)


@given(st.lists(st.tuples(st.sampled_from(ANSWERS), st.sampled_from(ANSWERS)), max_size=60))
def test_enough_solved_questions_balance_every_direction(
    pairs: list[tuple[str, str]],
) -> None:
    encoder = shared_encoder()
    weights = Counter(direction for direction in pairs if direction[0] != direction[1])
    plenty = [solved(encoder, n, answer) for n, answer in enumerate(ANSWERS * 70)]
    made = counter_pairs(encoder, weights, plenty, SPELLINGS, random.Random(0))
    for each in made:
        assert each.chosen.extracted is not None
        weights[each.chosen.extracted, each.answer] += 1
    assert all(abs(weight - weights[b, a]) <= 1 for (a, b), weight in weights.items())
    assert len({each.question for each in made}) == len(made)


_ENCODERS: list[Encoder] = []


def shared_encoder() -> Encoder:
    """Hypothesis runs a test many times; fixtures of pytest are not for it."""
    if not _ENCODERS:
        _ENCODERS.append(Encoder(str(BASE_MODEL), lambda digest: None))  # type: ignore[arg-type, return-value]
    return _ENCODERS[0]


def test_a_single_pair_is_not_answered() -> None:
    assert missing(Counter({("41", "42"): 1, ("yes", "no"): 3, ("no", "yes"): 2})) == {}
    assert missing(Counter({("yes", "no"): 5, ("no", "yes"): 2})) == {("no", "yes"): 3}


def test_few_solved_questions_give_all_the_pairs_they_can(encoder: Encoder) -> None:
    made = counter_pairs(encoder, Counter({("yes", "no"): 9}), [solved(encoder, 1, "no")], SPELLINGS, random.Random(0))
    assert [(each.question, each.answer) for each in made] == [(1, "yes")]


def test_pairs_with_equal_answers_or_none_have_no_direction() -> None:
    yes, no, silent = (
        JudgedSample(n, "", (1,), "correct", 1.0, answer) for n, answer in enumerate(("Yes", "no", None))
    )
    pairs = [NewPair(0, 1, "random", 0.5), NewPair(0, 2, "random", 1.0), NewPair(0, 0, "random", 1.0)]
    assert directions(pairs, [yes, no, silent]) == {("yes", "no"): 0.5}


@pytest.mark.parametrize(("old", "new"), [("yes", "no"), ("teal", "yellow"), ("rectangle", "circle")])
def test_a_swapped_chain_is_the_same_up_to_its_answer_and_ends(encoder: Encoder, old: str, new: str) -> None:
    swapped = swap_answer(encoder, chain(encoder, old), old, new)
    assert swapped == chain(encoder, new)


def test_a_chain_that_goes_on_after_its_answer_is_left_alone(encoder: Encoder) -> None:
    ids = encoder.completion_ids("### Answer: yes, as the question asks")
    assert swap_answer(encoder, ids, "yes", "no") is None
    assert swap_answer(encoder, ids, "blue", "no") is None


@pytest.fixture
def store(tmp_path: Path, encoder: Encoder) -> Store:
    """Round 1: of six questions that ask for a yes the policy solves half of the time, of six for a no always."""
    opened = open_store(tmp_path, create=True)
    wanted = ["yes"] * 6 + ["no"] * 6
    rows = [NewQuestion(f"{n}: {answer}?", [answer], [], "train", "t", "exact") for n, answer in enumerate(wanted)]
    held_out = [replace(row, text=f"held out {row.text}", split="test") for row in rows]
    add_questions(opened, [*rows, *held_out])
    with opened.transaction():
        add_policy(opened, Policy(0, None, "base", "sha", "path", {}))
    start_round(opened, 1, "pair", 0, range(1, 13))
    with opened.transaction():
        for question, answer in enumerate(wanted, 1):
            for index, given in enumerate(("yes", "no") if answer == "yes" else ("no", "no")):
                ids = chain(encoder, given)
                add_samples(
                    opened,
                    [NewSample(1, question, "policy", 0, "cot", index, encoder.text(ids), ids, "stop", -1.0 - index)],
                )
                outcome = "correct" if given == answer else "wrong"
                sample = opened.value("SELECT max(id) FROM sample")
                add_verdicts(opened, [NewVerdict(sample, "exact", "1", given, float(given == answer), outcome)])
    return opened


def context(store: Store, encoder: Encoder, *changes: str) -> Context:
    config = load_config("easy_vqa", ["fallback.questions=0", *changes])
    nothing = dict.fromkeys(("learner", "start_sampler", "stages"))
    return Context(store.path.parent, config, store, encoder, Console(quiet=True), 1, **nothing)  # type: ignore[arg-type]


def paired(store: Store) -> Counter[tuple[str, str, str]]:
    """How many pairs there are by rule, answer chosen and answer rejected."""
    rows = store.rows(
        "SELECT rule, c.extracted AS chosen, r.extracted AS rejected FROM pair"
        " JOIN verdict AS c ON c.sample = chosen JOIN verdict AS r ON r.sample = rejected"
    )
    return Counter((row["rule"], row["chosen"], row["rejected"]) for row in rows)


def test_one_sided_pairs_get_as_many_counter_pairs(store: Store, encoder: Encoder) -> None:
    for _ in range(2):  # done again after a crash it is the same
        pair(context(store, encoder), get_round(store, 1))
        assert paired(store) == {("likeliest", "yes", "no"): 6, ("counter", "no", "yes"): 6}
        swapped = store.rows("SELECT * FROM sample WHERE author = 'swapped'")
        assert {row["question"] for row in swapped} == set(range(7, 13))
        assert {row["text"] for row in swapped} == {"There is a circle.\n### Answer: yes"}
        assert store.value("SELECT count(*) FROM verdict") == 24 + 6


def test_without_balance_there_are_no_counter_pairs(store: Store, encoder: Encoder) -> None:
    pair(context(store, encoder, "pairs.balance=false"), get_round(store, 1))
    assert paired(store) == {("likeliest", "yes", "no"): 6}


def test_a_rounds_balance_shows_pairs_and_drift_of_answers(store: Store, encoder: Encoder) -> None:
    pair(context(store, encoder, "pairs.balance=false"), get_round(store, 1))
    training = NewTraining(1, {}, 1, 1, 0.1, 1.0, {}, [])
    record_candidate(store, Policy(1, 0, "dpo", "other", "path", {}), training)
    with store.transaction():
        for policy, noes in ((0, 6), (1, 9)):
            add_evaluations(
                store,
                [
                    NewEvaluation(
                        *(policy, "test", "cot", question, "", 1, "stop", None, "exact", "1"),
                        *("no" if n < noes else "Yes", 1.0, "correct", "[]"),
                    )
                    for n, question in enumerate(range(13, 25))
                ],
            )
    assert sorted(answer_balance(store, 1, "cot", "test"), key=lambda row: str(row["answer"])) == [
        {"answer": "no", "accepted": 0.5, "before": 0.5, "after": 0.75, "chosen": 0, "rejected": 6.0},
        {"answer": "yes", "accepted": 0.5, "before": 0.5, "after": 0.25, "chosen": 6.0, "rejected": 0},
    ]


def test_a_swapped_answer_is_spelled_as_right_chains_spell_it(encoder: Encoder) -> None:
    number, right = solved(encoder, 1, "No")
    weights = Counter({("yes", "no"): 3})
    (made,) = counter_pairs(encoder, weights, [(number, right)], {"yes": "Yes", "no": "No"}, random.Random(0))
    assert made.swapped == chain(encoder, "Yes")
