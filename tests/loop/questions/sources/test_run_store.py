"""Preferences made of another run's chains and images, and how the embedded teacher judges them."""

import hashlib
from collections import Counter
from pathlib import Path

import pytest

from judges import find_judge, give_verdict
from loop.config.questions import QuestionsConfig
from loop.errors import InputError
from loop.questions.sources import easy_vqa
from loop.questions.sources.judge_traces import write_judgement
from loop.questions.sources.run_store import read_questions
from store import Store, open_store
from store.new_questions import NewQuestion, add_questions
from store.rounds import Policy, add_policy, start_round
from store.samples import NewSample, NewVerdict, add_samples, add_verdicts

LAYOUT = "{question}\n1: {first}\n2: {second}"


@pytest.fixture(scope="module")
def asked() -> list[NewQuestion]:
    """Forty questions of easy-VQA, each with an image of its own that is annotated."""
    by_image: dict[str, NewQuestion] = {}
    for question in easy_vqa.read_questions(QuestionsConfig(source="easy_vqa", train_limit=90)):
        if question.split == "train" and question.digests[0] in easy_vqa.annotations():
            by_image.setdefault(question.digests[0], question)
    return list(by_image.values())[:40]


@pytest.fixture
def run_dir(tmp_path: Path, asked: list[NewQuestion]) -> Path:
    """A run of two rounds: of each question a right chain, a wrong one, and a right one that sees something else."""
    store = open_store(tmp_path, create=True)
    add_questions(store, asked)
    with store.transaction():
        add_policy(store, Policy(0, None, "base", "sha", "path", {}))
    for number in (1, 2):
        start_round(store, number, "pair", 0, range(1, 41))
        with store.transaction():
            for question, row in enumerate(asked, 1):
                add_chains(store, number, question, row)
    store.close()
    return tmp_path


def add_chains(store: Store, number: int, question: int, row: NewQuestion) -> None:
    chain = easy_vqa.write_rationale(row.text, row.answers[0], row.digests)
    assert chain is not None
    shape, color = easy_vqa.annotations()[row.digests[0]]
    other = "red" if color != "red" else "blue"
    lucky = chain.replace(f"shows a {color} {shape}", f"shows a {other} {shape}")
    wrong = chain.replace(f"### Answer: {row.answers[0]}", "### Answer: nothing")
    for index, (text, outcome) in enumerate(((chain, "correct"), (wrong, "wrong"), (lucky, "correct"))):
        add_samples(store, [NewSample(number, question, "policy", 0, "cot", index, text, [1], "stop")])
        sample = store.value("SELECT max(id) FROM sample")
        add_verdicts(store, [NewVerdict(sample, "exact", "1", row.answers[0], float(outcome == "correct"), outcome)])


def read(run_dir: Path, most: int = 1000) -> list[NewQuestion]:
    config = QuestionsConfig(
        source="store",
        path=str(run_dir),
        preference_layout=LAYOUT,
        preferences_per_task=most,
        held_out_share=0.3,
        gate_share=0.2,
    )
    return list(read_questions(config))


def test_every_question_gives_each_task_in_both_orders(run_dir: Path) -> None:
    found = read(run_dir)
    kinds = Counter(each.kind for each in found)
    assert kinds["answer"] == kinds["reasons"] == 80
    assert 0 < kinds["generation"] <= 2 * (len({each.digests[0] for each in found}) // 2)
    units = Counter(each.unit for each in found)
    assert set(units.values()) == {2}
    assert Counter(each.answers[0] for each in found) == {"1": len(found) // 2, "2": len(found) // 2}


def test_no_image_is_in_two_splits(run_dir: Path) -> None:
    splits: dict[str, set[str]] = {}
    for question in read(run_dir):
        for digest in question.digests:
            splits.setdefault(digest, set()).add(question.split)
    assert all(len(each) == 1 for each in splits.values())
    assert {split for each in splits.values() for split in each} == {"train", "gate", "test"}


def test_images_that_the_run_holds_out_are_in_no_generation_pair(run_dir: Path, asked: list[NewQuestion]) -> None:
    store = open_store(run_dir)
    with store.transaction():
        store.connection.execute("UPDATE question SET split = 'test' WHERE id > 20")
    store.close()
    shown = {digest for each in read(run_dir) if each.kind == "generation" for digest in each.digests}
    assert shown
    assert shown <= {each.digests[0] for each in asked[:20]}


def test_a_task_has_the_same_rows_each_time_within_its_limit(run_dir: Path) -> None:
    found = read(run_dir, most=5)
    assert max(Counter(each.kind for each in found).values()) <= 10
    assert [(each.text, each.answers) for each in found] == [(each.text, each.answers) for each in read(run_dir, 5)]


def test_a_store_without_right_and_wrong_chains_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    open_store(tmp_path / "run", create=True).close()
    with pytest.raises(InputError, match="has no question with a right and a wrong chain"):
        read(tmp_path / "run")
    with pytest.raises(InputError, match=r"questions.path: .* holds no run"):
        read(tmp_path / "nowhere")


def judged(question: NewQuestion) -> tuple[str, str]:
    """The embedded teacher's trace, and the outcome of its verdict."""
    trace = write_judgement(question.text, question.answers[0], question.digests)
    assert trace is not None
    judge = find_judge("preference")
    return trace, give_verdict(judge, trace, question.answers, finish_reason="stop", needs_marker=True).outcome


def test_the_embedded_teacher_judges_mostly_right_and_readably(run_dir: Path) -> None:
    outcomes = Counter(judged(question)[1] for question in read(run_dir))
    assert set(outcomes) <= {"correct", "wrong"}
    assert outcomes["correct"] > 0.8 * outcomes.total()


def test_a_trace_scores_each_dimension_of_both_candidates(asked: list[NewQuestion]) -> None:
    image = asked[0].images[0]
    digest = hashlib.sha256(image).hexdigest()
    shape, color = easy_vqa.annotations()[digest]
    good = f"The question asks for the shape. The image shows a {color} {shape}. It is {shape}. ### Answer: {shape}"
    bad = "The question asks for the shape. The image shows a pink blob. It is circle. ### Answer: blob"
    text = LAYOUT.format(question="what shape is there?", first=bad, second=good)
    assert write_judgement(text, None, [digest]) == (
        f"The question asks for the shape. The image shows a {color} {shape}. It is {shape}. So: {shape}\n"
        f"1: There is no pink blob 1. answer blob for {shape} 1 = 2\n"
        f"2: There is a {color} {shape} 9. answer {shape} for {shape} 9 = 18\n"
        "<answer>2</answer>"
    )


def test_the_embedded_teacher_is_silent_on_unknown_images() -> None:
    assert write_judgement("what is it?", "1", ["0" * 64]) is None
    assert write_judgement(LAYOUT.format(question="q", first="a", second="b"), "1", ["0" * 64]) is None
    assert write_judgement(LAYOUT.format(question="q", first="a", second="b"), "1", []) is None
