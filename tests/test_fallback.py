"""Which questions fall back to the teacher."""

from pathlib import Path

from loop.fallback import UNSOLVED
from store import open_store
from store.questions import NewQuestion, add_questions, find_questions
from store.rounds import Policy, add_policy, start_round
from store.samples import NewSample, NewVerdict, add_samples, add_verdicts

OUTCOMES = {1: ("wrong", "correct"), 2: ("wrong", "wrong"), 3: ("truncated", "unparsable"), 4: ("wrong", "wrong")}


def test_only_unsolved_questions_fall_back_and_the_choice_survives_a_restart(tmp_path: Path) -> None:
    store = open_store(tmp_path, create=True)
    add_questions(store, [NewQuestion(f"q{n}?", ["a"], [], "train", "test", "exact") for n in OUTCOMES])
    with store.transaction():
        add_policy(store, Policy(0, None, "base", "sha", "path", {}))
    start_round(store, 1, "fallback", 0, [])
    start_round(store, 2, "fallback", 0, list(OUTCOMES))
    with store.transaction():
        for question, outcomes in OUTCOMES.items():
            for index, outcome in enumerate(outcomes):
                add_samples(store, [NewSample(2, question, "policy", 0, "cot", index, "t", [1], "stop")])
                sample = store.value("SELECT max(id) FROM sample")
                add_verdicts(store, [NewVerdict(sample, "exact", "1", None, 0.0, outcome)])

    def fall_back(limit: int) -> set[int]:
        return {question.id for question in find_questions(store, UNSOLVED, 2, limit)}

    def ask(question: int, number: int) -> None:
        columns = "(hash, purpose, round, question, model, status, created)"
        with store.transaction():
            store.db.conn.execute(
                f"INSERT INTO teacher_call {columns} VALUES (?, 'fallback', ?, ?, 'm', 'kept', '')",
                (f"{question}-{number}", number, question),
            )

    assert fall_back(9) == {2, 3, 4}
    first_two = fall_back(2)
    ask(min(first_two), 2)
    assert fall_back(2) == first_two
    ask(4, 1)
    assert fall_back(9) == {2, 3}
    store.close()
