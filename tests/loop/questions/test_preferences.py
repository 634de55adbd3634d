"""Preference questions: both orders of a row, as one unit, and what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loop.config.load import load_config, parse_config
from loop.config.questions import QuestionsConfig
from loop.errors import InputError
from loop.questions.ingest import ingest
from loop.questions.preferences import Preference, fill, read_layout
from loop.questions.registry import SOURCES
from loop.questions.sources.jsonl import read_file
from loop.reading.accuracy_log import accuracy
from loop.terminal.console import Console
from store import open_store
from store.evaluations import NewEvaluation, add_evaluations
from store.new_questions import NewQuestion, add_questions
from store.questions import find_questions
from store.rounds import Policy, add_policy
from tests.support.command_line import PROJECT

RED = PROJECT / "tests" / "fixtures" / "red.png"
ROW: dict[str, Any] = {"question": "What is there?", "candidates": ["a red square", "a cat"], "better": 1}


def read(tmp_path: Path, *rows: dict[str, Any]) -> list[NewQuestion]:
    (tmp_path / "red.png").write_bytes(RED.read_bytes())
    (tmp_path / "other.png").write_bytes(RED.read_bytes() + b"\0")
    file = tmp_path / "rows.jsonl"
    file.write_text("\n".join(json.dumps(row) for row in rows))
    return list(read_file(file, QuestionsConfig(source="jsonl", path=str(file), held_out_share=0.3, gate_share=0.2)))


def test_a_row_is_asked_in_both_orders_of_one_unit(tmp_path: Path) -> None:
    first, second = read(tmp_path, {**ROW, "task": "understanding", "images": ["red.png"], "id": 7})
    assert first.text == "What is there?\nCandidate 1: a red square\nCandidate 2: a cat"
    assert second.text == "What is there?\nCandidate 1: a cat\nCandidate 2: a red square"
    assert (first.answers, second.answers) == (["1"], ["2"])
    assert first.unit == second.unit is not None
    assert {each.judge for each in (first, second)} == {"preference"}
    assert {each.kind for each in (first, second)} == {"understanding"}
    assert first.digests == second.digests
    assert first.split == second.split


@given(
    st.permutations(["{question}", "{first}", "{second}"]),
    st.lists(st.text("ab c\n", max_size=6), min_size=3, max_size=3),
)
def test_what_was_laid_out_is_found_again(places: list[str], texts: list[str]) -> None:
    layout = f"{places[0]}|1: {places[1]}|2: {places[2]}|"
    named = dict(zip(("question", "first", "second"), texts, strict=True))
    assert read_layout(layout, fill(layout, {f"{{{name}}}": text for name, text in named.items()})) == named


def test_a_text_of_another_layout_is_not_taken_apart() -> None:
    assert read_layout("{question}\n1: {first}\n2: {second}", "what is it?") is None


def test_candidate_images_follow_question_images_in_order(
    tmp_path: Path,
) -> None:
    row = {**ROW, "candidates": ["", ""], "images": ["red.png"], "candidate_images": [["red.png"], ["other.png"]]}
    first, second = read(tmp_path, row)
    red, other = first.digests[0], first.digests[2]
    assert red != other
    assert first.digests == [red, red, other]
    assert second.digests == [red, other, red]


def test_rows_of_one_question_are_in_one_split(tmp_path: Path) -> None:
    rows = [
        {"question": f"question {n}?", "candidates": [f"{a}", f"{b}"], "better": 2}
        for n in range(40)
        for a, b in (("x", "y"), ("y", "z"))
    ]
    splits: dict[str, set[str]] = {}
    for question in read(tmp_path, *rows):
        splits.setdefault(question.text.splitlines()[0], set()).add(question.split)
    assert all(len(each) == 1 for each in splits.values())
    assert len(set().union(*splits.values())) == 3


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"better": 3}, "'better' must be 1 or 2, not 3"),
        ({"better": True}, "'better' must be 1 or 2"),
        ({"better": None}, "'better' must be 1 or 2"),
        ({"candidates": ["one"]}, "'candidates' must be a list of two texts"),
        ({"candidates": ["a", "b", "c"]}, "'candidates' must be a list of two texts"),
        ({"candidates": ["a", 2]}, "'candidates' must be a list of two texts"),
        ({"candidates": ["same", " same "]}, "both candidates are the same"),
        ({"candidates": ["a", " "]}, "candidate 2 has neither a text nor an image"),
        ({"candidate_images": ["red.png"]}, "'candidate_images' must be two lists of paths"),
        ({"candidate_images": [["gone.png"], []]}, "image 'gone.png' cannot be read"),
        ({"candidate_images": [["../red.png"], []]}, "lies outside"),
        ({"answer": "1"}, "and no 'answer'"),
        ({"choices": ["a", "b"]}, "and no 'answer', 'answers' or 'choices'"),
        ({"judge": "exact"}, "is judged by 'preference'"),
        ({"task": 5}, "'task' must be a text"),
    ],
)
def test_a_bad_row_is_named_with_its_line(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=r"rows.jsonl, line 2: ") as caught:
        read(tmp_path, ROW, {**ROW, **change})
    assert said in str(caught.value)


def test_keys_of_preferences_are_refused_in_other_rows(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"line 1: 'better' belongs to a row with 'candidates'"):
        read(tmp_path, {"question": "q?", "answer": "a", "better": 1})


def test_a_layout_without_a_place_is_refused() -> None:
    tables = load_config("easy_vqa", []).model_dump(mode="json")
    tables["questions"]["preference_layout"] = "{question} {first}"
    with pytest.raises(InputError, match=r"preference_layout must contain \{second\} once"):
        parse_config(tables, "test")


@given(st.text(max_size=30), st.text(max_size=30), st.text(max_size=30))
def test_texts_that_spell_a_place_are_left_as_they_are(question: str, first: str, second: str) -> None:
    texts = {"{question}": question + "{second}", "{first}": first + "{question}", "{second}": second}
    filled = fill("<{question}|{first}|{second}>", texts)
    assert filled == f"<{question}{{second}}|{first}{{question}}|{second}>"


@given(st.permutations(["a", "b"]))
def test_a_unit_has_one_name_whichever_candidate_comes_first(order: list[str]) -> None:
    made = Preference("q", (order[0], order[1]), order.index("a"), [], ([], []))
    assert made.unit == Preference("q", ("a", "b"), 0, [], ([], [])).unit


def test_a_judge_that_always_says_1_is_right_in_no_unit(tmp_path: Path) -> None:
    rows = [{**ROW, "question": f"{n}?", "task": "easy" if n % 2 else "hard", "split": "test"} for n in range(10)]
    (tmp_path / "run").mkdir()
    store = open_store(tmp_path / "run", create=True)
    add_questions(store, read(tmp_path, *rows))
    with store.transaction():
        for policy, verdict in enumerate(("always 1", "right", "wrong")):
            add_policy(store, Policy(policy, None, "base", f"sha {policy}", "path", {}))
            for question in find_questions(store, "1 ORDER BY id"):
                said = "1" if verdict == "always 1" else question.answers[0]
                is_right = (said == question.answers[0]) != (verdict == "wrong")
                evaluation = NewEvaluation(
                    *(policy, "test", "cot", question.id, "", 1, "stop", None, "preference", "1", said),
                    *(float(is_right), "correct" if is_right else "wrong", "[]"),
                )
                add_evaluations(store, [evaluation])
    always, right, wrong = (accuracy(store, policy, "cot", "test") for policy in range(3))
    assert always is not None
    assert right is not None
    assert wrong is not None
    assert (always["accuracy"], always["pairwise"]["accuracy"], always["pairwise"]["consistent"]) == (0.5, 0.0, 0.0)
    assert (right["pairwise"]["accuracy"], right["pairwise"]["consistent"]) == (1.0, 1.0)
    assert (wrong["pairwise"]["accuracy"], wrong["pairwise"]["consistent"]) == (0.0, 1.0)
    assert right["pairwise"]["kinds"] == {"easy": (5, 1.0), "hard": (5, 1.0)}


def test_a_prompt_that_does_not_ask_for_the_tag_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    read(tmp_path, *({**ROW, "split": split, "question": split} for split in ("train", "gate", "test")))
    tables = load_config("my_data", [f"questions.path={tmp_path / 'rows.jsonl'}"]).model_dump(mode="json")
    tables["sampling"]["style"] = "cot"
    for prompt, refused in (("{question}", True), ("{question} Give <answer>1</answer> or 2.", False)):
        config = parse_config({**tables, "prompts": {**tables["prompts"], "cot": prompt}}, "test")
        store = open_store(tmp_path / "run", create=True)
        if refused:
            with pytest.raises(InputError, match=r"prompts.cot must ask for the verdict in its tag"):
                ingest(store, config, SOURCES["jsonl"], Console(quiet=True))
        else:
            ingest(store, config, SOURCES["jsonl"], Console(quiet=True))
            assert store.value("SELECT count(*) FROM question") == 6
        store.close()
