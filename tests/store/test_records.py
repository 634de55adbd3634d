"""Records that the loop makes through functions of the store, and reads back."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from store import Store, open_store
from store.evaluations import (
    NewEvaluation,
    NewEvaluationSample,
    NewVerifierScore,
    add_evaluation_samples,
    add_evaluations,
    add_verifier_scores,
    best_accepted_policy,
    greedy_outcomes,
    most_accurate_policy,
    present_evaluation_samples,
    present_evaluations,
    scored_samples,
    unscored_samples,
)
from store.new_questions import NewQuestion, add_questions
from store.packing import unpack_scores, unpack_token_ids
from store.pairs import NewPair, replace_pairs, training_pairs
from store.questions import (
    candidate_questions,
    questions_by_id,
    questions_without_vote,
    round_questions,
    times_asked,
    train_answers,
)
from store.rounds import (
    Policy,
    add_policy,
    cold_start_trained,
    get_policy,
    get_round,
    has_gate_split,
    next_policy_number,
    policy_parents,
    published_policies,
    recent_decisions,
    record_decision,
    start_round,
)
from store.samples import (
    NewSample,
    NewVerdict,
    NewVote,
    add_samples,
    add_verdicts,
    add_votes,
    count_unjudged_samples,
    pass_rates,
    present_samples,
    samples_of_question,
    unjudged_samples,
)
from store.sessions import (
    add_swap,
    begin_session,
    change_configuration,
    count_engine_start,
    end_session,
    record_configuration,
    stored_configuration,
)
from store.training import NewTraining, NewTrainingStep, record_candidate

RIGHT, WRONG = "correct", "wrong"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """Three train questions, the last without an answer, a test question, and round 1 with two of them."""
    opened = open_store(tmp_path, create=True)
    for text, answers, split in (("a?", ["red"], "train"), ("b?", ["blue"], "train"), ("c?", [], "train")):
        add_questions(opened, [NewQuestion(text, answers, [], split, "test", "exact")])
    add_questions(opened, [NewQuestion("d?", ["red"], [], "test", "test", "exact")])
    with opened.transaction():
        add_policy(opened, Policy(0, None, "base", "sha", "path", {}))
    start_round(opened, 0, "done", 0, [])
    start_round(opened, 1, "sample", 0, [3, 1])
    yield opened
    opened.close()


def sampled(store: Store, question: int, *outcomes: str | None) -> None:
    """Samples of round 1, each with a verdict if it has an outcome."""
    for index, outcome in enumerate(outcomes):
        with store.transaction():
            add_samples(
                store, [NewSample(1, question, "policy", 0, "cot", index, f"{index}", [question, index], "stop")]
            )
            if outcome is not None:
                add_verdicts(store, [NewVerdict(last_id(store), "exact", "1", "red", 1.0, outcome)])


def last_id(store: Store) -> int:
    number: int = store.value("SELECT max(id) FROM sample")
    return number


def evaluated(store: Store, policy: int, question: int, outcome: str, style: str = "cot") -> None:
    with store.transaction():
        add_evaluations(
            store,
            [
                NewEvaluation(
                    policy, "test", style, question, "red", 1, "stop", None, "exact", "1", None, 0.5, outcome, "[]"
                )
            ],
        )


def candidate(store: Store, number: int, round_number: int, curve: list[NewTrainingStep] | None = None) -> None:
    record_candidate(
        store,
        Policy(number, 0, "rft+dpo", "sha", f"policies/{number}", {"questions": [4]}),
        NewTraining(round_number, {"dpo": {"beta": 0.1}}, 8, 2, 0.25, 1.5, {"dpo": {"items": 8}}, curve or []),
    )


def test_a_session_is_recorded_from_its_begin_to_its_end(store: Store) -> None:
    session = begin_session(store, "evaluate", {"threads": 1})
    count_engine_start(store, session)
    count_engine_start(store, session)
    add_swap(store, session, None, 0, "sha", 0.01, 2.5)
    end_session(store, session, "stopped", 1024)
    row = store.row("SELECT command, engine_starts, end_reason, peak_memory_bytes FROM session WHERE id = ?", session)
    assert row is not None
    assert tuple(row) == ("evaluate", 2, "stopped", 1024)
    swap = store.row("SELECT session, round, policy, sha256, probe_difference, seconds FROM swap")
    assert swap is not None
    assert tuple(swap) == (session, None, 0, "sha", 0.01, 2.5)


def test_single_keys_of_the_configuration_can_change(tmp_path: Path) -> None:
    store = open_store(tmp_path, create=True)
    assert stored_configuration(store) is None
    record_configuration(store, 7, {"run": {"rounds": 2, "seed": 7}, "gate": {"level": 0.1}}, {"torch": "2"})
    change_configuration(store, {"run.rounds": 5, "gate.level": None})
    assert stored_configuration(store) == {"run": {"rounds": 5, "seed": 7}, "gate": {"level": None}}
    store.close()


def test_another_configuration_replaces_the_old_questions(tmp_path: Path) -> None:
    store = open_store(tmp_path, create=True)
    record_configuration(store, 1, {"run": {"seed": 1}}, {})
    add_questions(store, [NewQuestion("a?", ["red"], [], "train", "test", "exact")])
    record_configuration(store, 2, {"run": {"seed": 2}}, {})
    assert stored_configuration(store) == {"run": {"seed": 2}}
    assert store.value("SELECT count(*) FROM question") == 0
    store.close()


def test_a_candidate_is_recorded_whole_or_not_at_all(store: Store) -> None:
    step = NewTrainingStep(1, "dpo", 0.5, 1e-5, None, None)
    with pytest.raises(sqlite3.IntegrityError):
        candidate(store, 1, 1, [step, step])
    assert (next_policy_number(store), get_round(store, 1).candidate_policy) == (1, None)
    candidate(store, 1, 1, [step, step._replace(number=2, margin=0.1, accuracy=0.75)])
    assert get_round(store, 1).candidate_policy == 1
    assert get_policy(store, 1).probe == {"questions": [4]}
    training = store.row("SELECT round, candidate, method, recipe, items, steps, loss, seconds, metrics FROM training")
    assert training is not None
    recorded = (1, 1, "rft+dpo", '{"dpo":{"beta":0.1}}', 8, 2, 0.25, 1.5, '{"dpo":{"items":8}}')
    assert tuple(training) == recorded
    steps = store.rows("SELECT step, method, loss, learning_rate, margin, accuracy FROM training_step ORDER BY step")
    assert [tuple(row) for row in steps] == [(1, "dpo", 0.5, 1e-5, None, None), (2, "dpo", 0.5, 1e-5, 0.1, 0.75)]
    assert policy_parents(store) == {0: set(), 1: {0}}
    assert [tuple(row) for row in published_policies(store)] == [(1, "policies/1", None)]


def test_decisions_are_read_back_from_the_latest_round(store: Store) -> None:
    record_decision(store, 0, "accepted", "the start")
    record_decision(store, 1, "rejected", "worse")
    start_round(store, 2, "sample", 0, [])
    record_decision(store, 2, "accepted", "better")
    start_round(store, 3, "sample", 0, [])
    assert recent_decisions(store, 4) == ["accepted", "rejected"]
    assert recent_decisions(store, 2) == ["rejected"]


def test_the_cold_start_counts_as_trained_after_its_update(tmp_path: Path) -> None:
    store = open_store(tmp_path, create=True)
    assert not cold_start_trained(store)
    with store.transaction():
        add_policy(store, Policy(0, None, "base", "sha", "path", {}))
    start_round(store, 0, "update", 0, [])
    assert not cold_start_trained(store)
    candidate(store, 1, 0)
    assert cold_start_trained(store)
    store.close()


def test_samples_that_are_missing_or_unjudged(store: Store) -> None:
    sampled(store, 1, RIGHT, None, None)
    sampled(store, 3, None)
    assert present_samples(store, 1, 0, "cot") == {(1, 0), (1, 1), (1, 2), (3, 0)}
    assert present_samples(store, 1, 0, "direct") == set()
    assert count_unjudged_samples(store, 1) == 2  # question 3 has no accepted answer: its vote judges it
    (first,) = unjudged_samples(store, 1, after=0, limit=1)
    (second,) = unjudged_samples(store, 1, after=first["id"], limit=9)
    assert [(row["question"], row["text"]) for row in (first, second)] == [(1, "1"), (1, "2")]
    assert [(row["text"], row["outcome"]) for row in samples_of_question(store, 1, 1)] == [
        ("0", RIGHT),
        ("1", None),
        ("2", None),
    ]


def test_pass_rates_cover_judged_samples_of_these_rounds(store: Store) -> None:
    sampled(store, 1, RIGHT, WRONG, WRONG, RIGHT)
    assert pass_rates(store, 1, 1) == {1: 0.5}
    assert pass_rates(store, 2, 4) == {}


def test_a_question_without_samples_has_no_vote(store: Store) -> None:
    assert questions_without_vote(store, 1, 9) == []


def test_a_vote_settles_its_question(store: Store) -> None:
    for question in (1, 3):
        sampled(store, question, RIGHT)
    assert [question.id for question in questions_without_vote(store, 1, 9)] == [1, 3]
    assert [question.id for question in questions_without_vote(store, 1, 1)] == [1]
    with store.transaction():
        add_votes(store, [NewVote(1, 1, "red", 4, 0.75, 0.5, RIGHT)])
    assert [question.id for question in questions_without_vote(store, 1, 9)] == [3]
    row = store.row("SELECT answer, samples, share, margin, outcome FROM vote")
    assert row is not None
    assert tuple(row) == ("red", 4, 0.75, 0.5, RIGHT)


def test_questions_of_a_round_come_in_the_order_of_their_ids(store: Store) -> None:
    assert [question.id for question in round_questions(store, 1)] == [1, 3]
    assert list(questions_by_id(store, [3, 1, 3, 99])) == [1, 3]
    assert questions_by_id(store, []) == {}
    assert sorted(train_answers(store)) == [(1, ["red"]), (2, ["blue"])]
    assert not has_gate_split(store)


def test_candidates_are_not_suspect_and_count_their_rounds(store: Store) -> None:
    store.connection.execute("UPDATE question SET suspect = 1 WHERE id = 2")
    store.connection.commit()
    assert sorted(candidate[0] for candidate in candidate_questions(store, unanswered=True)) == [1, 3]
    assert [candidate[0] for candidate in candidate_questions(store, unanswered=False)] == [1]
    assert times_asked(store) == {1: 1, 3: 1}


def test_pairs_chosen_again_take_the_place_of_the_first(store: Store) -> None:
    sampled(store, 1, RIGHT, WRONG, WRONG)
    replace_pairs(store, 1, [NewPair(1, 2, "random", 1.0)])
    replace_pairs(store, 1, [NewPair(1, 3, "all", 0.5), NewPair(1, 2, "all", 0.25)])
    rows = training_pairs(store, 1, 1)
    sides = [(unpack_token_ids(row["chosen"]), unpack_token_ids(row["rejected"]), row["weight"]) for row in rows]
    assert sides == [([1, 0], [1, 2], 0.5), ([1, 0], [1, 1], 0.25)]
    assert [(row["question"], row["style"]) for row in rows] == [(1, "cot")] * 2
    assert training_pairs(store, 2, 3) == []


def test_greedy_answers_say_which_policy_is_best(store: Store) -> None:
    for number in (1, 2):
        start_round(store, number + 1, "gate", 0, [])
        candidate(store, number, number + 1)
        record_decision(store, number + 1, "rejected" if number == 2 else "accepted", "by the gate")
    for policy, outcomes in {0: (WRONG, WRONG), 1: (RIGHT, WRONG), 2: (RIGHT, RIGHT)}.items():
        for question, outcome in enumerate(outcomes, start=1):
            evaluated(store, policy, question, outcome)
    evaluated(store, 0, 4, RIGHT, style="direct")
    assert present_evaluations(store, 0, "test") == {(1, "cot"), (2, "cot"), (4, "direct")}
    assert greedy_outcomes(store, 1, "test", "cot") == {1: True, 2: False}
    assert most_accurate_policy(store, "test", "cot") == 2
    assert best_accepted_policy(store, 9, "test", "cot") == 1
    assert best_accepted_policy(store, 2, "test", "cot") is None


def test_a_policy_with_few_answers_is_not_the_most_accurate(store: Store) -> None:
    candidate(store, 1, 1)
    for question in (1, 2, 4):
        evaluated(store, 0, question, WRONG)
    evaluated(store, 1, 1, RIGHT)
    assert most_accurate_policy(store, "test", "cot") == 0


def test_best_of_k_chains_keep_their_verifier_scores(store: Store) -> None:
    chains = [
        NewEvaluationSample(
            0, "test", "cot", 4, index, f"{index}", [7, 8], "stop", "exact", "1", "red", 1.0, RIGHT, "[]"
        )
        for index in range(3)
    ]
    with store.transaction():
        add_evaluation_samples(store, chains)
    assert present_evaluation_samples(store, 0, "test", "cot") == {(4, 0), (4, 1), (4, 2)}
    first, *_ = unscored_samples(store, 0, 0, "test", "cot")
    assert (first["question"], unpack_token_ids(first["token_ids"])) == (4, [7, 8])
    with store.transaction():
        add_verifier_scores(store, [NewVerifierScore(first["id"], 0, [-1.5, 0.5])])
    assert [row["id"] for row in unscored_samples(store, 0, 0, "test", "cot")] == [2, 3]
    assert store.value("SELECT score FROM verifier_score") == -1.0
    scores = [row["token_scores"] for row in scored_samples(store, 0, 0, "test", "cot", 2)]
    assert (unpack_scores(scores[0]), scores[1:]) == ([-1.5, 0.5], [None])
