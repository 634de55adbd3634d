"""The fallback: who falls back, what the teacher is asked, and what becomes of its answers."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from loop.config.load import parse_config
from loop.config.schema import Config
from loop.context import Context
from loop.phases.teacher_fallback import fallback
from loop.questions.order import choose_questions
from loop.reading.accuracy_log import log_rows
from loop.terminal.console import Console
from loop.terminal.log_table import format_log
from policies.teacher.client import Teacher
from policies.teacher.request import TeacherSettings
from store import Store, open_store
from store.new_questions import NewQuestion, add_questions
from store.rounds import Policy, Round, add_policy, get_round, start_round
from store.samples import NewSample, NewVerdict, add_samples, add_verdicts
from store.teacher.fallback import kept_chains, suspects
from tests.support.fault_server import Behaviour, completion, serve


def config(**fallback_keys: Any) -> Config:
    tables = {
        "policy": {"model": "m"},
        "questions": {"source": "easy_vqa"},
        "fallback": {"questions": 9, "min_samples": 2, **fallback_keys},
    }
    return parse_config(tables, "here")


class Encoder:
    """Stands for the model's tokenizer, which the fallback only passes its text to."""

    def completion_ids(self, text: str) -> list[int]:
        return list(text.encode())


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """Five questions and two rounds; the verdicts are each test's own."""
    opened = open_store(tmp_path, create=True)
    add_questions(opened, [NewQuestion(f"q{n}?", ["red"], [], "train", "test", "exact") for n in range(1, 6)])
    with opened.transaction():
        add_policy(opened, Policy(0, None, "base", "sha", "path", {}))
    start_round(opened, 0, "done", 0, [])
    start_round(opened, 1, "fallback", 0, [1, 2, 3, 4, 5])
    yield opened
    opened.close()


def sampled(store: Store, number: int, outcomes: dict[int, tuple[str, ...]]) -> None:
    """The policy's samples of a round with these outcomes."""
    with store.transaction():
        for question, each in outcomes.items():
            for index, outcome in enumerate(each):
                text = f"chain {index} of {question}"
                add_samples(store, [NewSample(number, question, "policy", 0, "cot", index, text, [1], "stop")])
                written = store.value("SELECT max(id) FROM sample")
                add_verdicts(store, [NewVerdict(written, "exact", "1", None, 0.0, outcome)])


def run(store: Store, url: str, number: int = 1, settings: Config | None = None, attempts: int = 2) -> None:
    """The phase as the controller runs it, against a server."""
    teacher = Teacher(TeacherSettings(url, "m", attempts=attempts, backoff_s=0.01), embedded=True)
    encoder: Any = Encoder()
    unused: Any = None
    ctx = Context(
        run_dir=store.path.parent,
        config=settings or config(),
        store=store,
        encoder=encoder,
        reporter=Console(quiet=True),
        session=1,
        learner=unused,
        start_sampler=unused,
        stages=unused,
        teacher=teacher,
    )
    fallback(ctx, Round(number, "fallback", 0, None, None))


def outcomes(store: Store, number: int = 1) -> dict[int, str]:
    return {row["question"]: row["outcome"] for row in store.rows("SELECT * FROM fallback WHERE round = ?", number)}


def replying(answer: Callable[[str], str]) -> Behaviour:
    """A server's behaviour: it answers with a function of the prompt."""
    return lambda _, prompt: completion(answer(prompt))


RIGHT = "It is red.\n### Answer: red"
WRONG = "### Chain:\nIt is blue.\n### Answer: blue"
CORRECTION = f"### Mistake: It looked at the sky.\n### Chain:\n{RIGHT}"


def test_only_unsolved_questions_with_enough_samples_fall_back(store: Store) -> None:
    sampled(
        store,
        1,
        {
            1: ("wrong", "correct"),
            2: ("wrong", "wrong"),
            3: ("truncated", "unparsable"),
            4: ("wrong",),
            5: ("wrong", "judge_error"),
        },
    )
    with serve(replying(lambda _: RIGHT)) as server:
        run(store, server.url)
    assert outcomes(store) == {2: "solved", 3: "solved"}


def test_earlier_rounds_count_when_they_are_to(store: Store) -> None:
    start_round(store, 2, "fallback", 0, [1, 2, 3])
    sampled(store, 1, {1: ("correct", "wrong"), 2: ("wrong", "wrong")})
    sampled(store, 2, {1: ("wrong", "wrong"), 2: ("wrong", "wrong"), 3: ("wrong", "wrong")})
    with serve(replying(lambda _: RIGHT)) as server:
        run(store, server.url, 2, config(earlier_rounds=1, min_samples=4))
    assert outcomes(store, 2) == {2: "solved"}


def test_a_solve_comes_before_a_correction_of_a_failed_chain(store: Store) -> None:
    sampled(store, 1, {1: ("truncated", "wrong"), 2: ("wrong", "wrong"), 3: ("wrong", "wrong")})

    def answer(prompt: str) -> str:
        if "Accepted answer:" in prompt:
            return CORRECTION if "q2?" in prompt else "### Mistake: None.\n### Chain:\n" + WRONG
        return RIGHT if "q1?" in prompt else WRONG

    with serve(replying(answer)) as server:
        run(store, server.url)
    assert outcomes(store) == {1: "solved", 2: "corrected", 3: "suspect"}
    prompts = list(server.asked)
    assert [prompt for prompt in prompts if "q1?" in prompt and "red" in prompt] == []
    (correction,) = [prompt for prompt in prompts if "q2?" in prompt and "Accepted answer: red" in prompt]
    assert correction.endswith("The student's chain:\nchain 0 of 2\n")
    kept = {row["question"]: (row["text"], row["failed"]) for row in kept_chains(store, 1)}
    assert kept == {
        1: (RIGHT, store.value("SELECT id FROM sample WHERE text = 'chain 1 of 1'")),
        2: (RIGHT, store.value("SELECT id FROM sample WHERE text = 'chain 0 of 2'")),
    }
    assert suspects(store) == [3]
    names = store.rows(
        "SELECT DISTINCT purpose, name, length(prompt.text) > 100 FROM teacher_call JOIN prompt ON prompt.hash = prompt"
        " ORDER BY purpose"
    )
    assert [tuple(row) for row in names] == [("correct", "correct", 1), ("solve", "solve", 1)]


def test_suspects_are_left_out_later_and_counted_in_the_log(store: Store) -> None:
    sampled(store, 1, {1: ("wrong", "wrong"), 2: ("wrong", "wrong")})
    with serve(replying(lambda prompt: RIGHT if "q2?" in prompt else WRONG)) as server:
        run(store, server.url)
    ctx: Any = SimpleNamespace(store=store, config=config())
    start_round(store, 2, "sample", 0, choose_questions(ctx, 2, config().sampling.questions))
    assert get_round(store, 2).number == 2
    asked = {row["question"] for row in store.rows("SELECT question FROM round_question WHERE round = 2")}
    assert asked == {2, 3, 4, 5}
    _, row, _ = log_rows(store)
    assert (row["fell_back"], row["fallback_solved"], row["fallback_corrected"], row["suspects"]) == (2, 1, 0, 1)
    assert row["teacher_asked"] == 3
    assert row["teacher_kept"] == 1
    assert row["teacher_dropped"] == {"wrong": 2}
    assert json.dumps(row)
    assert "suspect" in format_log(store)


@pytest.mark.parametrize("fault", ["content_filter", "length", "refusal", "400"])
def test_what_was_withheld_or_cut_off_makes_no_suspect(store: Store, fault: str) -> None:
    sampled(store, 1, {1: ("wrong", "wrong")})
    with serve(fault) as server:
        run(store, server.url)
    assert outcomes(store) == {1: "unanswered"}
    assert suspects(store) == []


def test_a_dead_endpoint_ends_the_phase_and_is_asked_later(store: Store) -> None:
    sampled(store, 1, {1: ("wrong", "wrong"), 2: ("wrong", "wrong")})
    with serve("500") as server:
        run(store, server.url)
    assert outcomes(store) == {1: "unanswered", 2: "unanswered"}
    start_round(store, 2, "fallback", 0, [1, 2])
    sampled(store, 2, {1: ("wrong", "wrong"), 2: ("correct", "wrong")})
    with serve(replying(lambda _: RIGHT)) as server:
        run(store, server.url, 2)
    assert outcomes(store, 2) == {1: "solved"}


def test_answers_before_an_outage_are_kept(store: Store) -> None:
    sampled(store, 1, dict.fromkeys(range(1, 6), ("wrong", "wrong")))
    right = replying(lambda _: RIGHT)
    with serve(lambda asked, prompt: right(asked, prompt) if "q1?" in prompt else "500") as server:
        run(store, server.url)
    assert outcomes(store) == {1: "solved", **dict.fromkeys(range(2, 6), "unanswered")}


def test_repeated_phases_and_questions_cost_nothing(
    store: Store,
) -> None:
    sampled(store, 1, {1: ("wrong", "wrong"), 2: ("wrong", "wrong")})
    with serve(replying(lambda _: RIGHT)) as server:
        run(store, server.url)
        run(store, server.url)
        start_round(store, 2, "fallback", 0, [1, 2])
        sampled(store, 2, {1: ("wrong", "wrong"), 2: ("wrong", "wrong")})
        run(store, server.url, 2)
    assert sum(server.asked.values()) == 2
    assert outcomes(store, 2) == {1: "solved", 2: "solved"}
    assert len(kept_chains(store, 2)) == 2


def test_new_questions_come_before_those_that_fell_back_earlier(store: Store) -> None:
    sampled(store, 1, {1: ("wrong", "wrong"), 2: ("wrong", "wrong"), 3: ("wrong", "wrong")})
    with serve(replying(lambda _: RIGHT)) as server:
        run(store, server.url, settings=config(questions=2))
        (first,) = {1, 2, 3} - outcomes(store).keys()
        start_round(store, 2, "fallback", 0, [1, 2, 3])
        sampled(store, 2, {1: ("wrong", "wrong"), 2: ("wrong", "wrong"), 3: ("wrong", "wrong")})
        run(store, server.url, 2, config(questions=1))
    assert outcomes(store, 2) == {first: "solved"}
