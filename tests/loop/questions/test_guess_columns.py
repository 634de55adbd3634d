"""The guesses of `init` about a data set's columns, splits and judge."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from loop.config.known_datasets import KNOWN
from loop.questions.dataset_files import OpenSet, open_set
from loop.questions.guess_columns import Guess, guess_columns, guess_judge, guess_splits
from store.new_questions import NewQuestion
from tests.loop.questions.test_known_datasets import SETS, write_like
from tests.support.scene_sets import write_scenes


def opened(folder: Path, *rows: dict[str, Any]) -> OpenSet:
    pq.write_table(pa.Table.from_pylist(list(rows)), folder / "set.parquet")
    return open_set(str(folder / "set.parquet"))


def test_scenes_are_understood(tmp_path: Path) -> None:
    found = guess_columns(open_set(str(write_scenes(tmp_path / "a.parquet", 20))), "train")
    assert found == Guess({"question": "question", "answer": "answer", "kind": "kind", "images": "image"})


@pytest.mark.parametrize("name", [name for name, use, _ in SETS if use == "training"])
def test_published_sets_are_understood_without_their_mapping(name: str, tmp_path: Path) -> None:
    hub = KNOWN[name].training
    assert hub is not None
    write_like(tmp_path, hub)
    found = guess_columns(open_set(str(tmp_path), hub.name), "train")
    for part in ("answer_index", "images"):
        assert found.columns.get(part) == hub.columns.get(part), part
    asked = hub.columns["question"]
    if isinstance(asked, str) and "{" not in asked:
        assert found.columns["question"] == asked
    assert found.answer_after == hub.answer_after
    if "answer" in hub.columns:
        assert found.columns["answer"] == hub.columns["answer"]


def test_choices_are_laid_out_unless_the_question_lists_them(tmp_path: Path) -> None:
    row = {"question": "Which?", "options": ["cat", "dog"], "answer": 1}
    assert guess_columns(opened(tmp_path, row), "train").columns == {
        "question": ["{question}", "{options}"],
        "choices": "options",
        "answer_index": "answer",
    }
    listed = {**row, "question": "Which, cat or dog?", "answer": "dog"}
    assert guess_columns(opened(tmp_path, listed), "train").columns == {
        "question": "question",
        "choices": "options",
        "answer": "answer",
    }


def test_a_split_without_answers_is_not_held_out(tmp_path: Path) -> None:
    def write(split: str, answer: str | None) -> None:
        schema = pa.schema([("question", pa.string()), ("answer", pa.string())])
        rows = [{"question": "?", "answer": answer}]
        (tmp_path / "data").mkdir(exist_ok=True)
        pq.write_table(pa.Table.from_pylist(rows, schema), tmp_path / "data" / f"{split}-00000-of-00001.parquet")

    guess = Guess({"question": "question", "answer": "answer"})
    write("train", "a")
    assert guess_splits(open_set(str(tmp_path)), guess) == {"train": "train"}
    write("validation", "a")
    write("test", None)
    assert guess_splits(open_set(str(tmp_path)), guess) == {"train": "train", "test": "validation"}
    write("test", "a")
    assert guess_splits(open_set(str(tmp_path)), guess) == {"train": "train", "gate": "validation", "test": "test"}


@pytest.mark.parametrize(
    ("answers", "choices", "judge"),
    [
        ([["red"], ["blue"]], [], "exact"),
        ([["3"], ["1,000"]], [], "numeric"),
        ([["\\frac{1}{2}"], ["3"]], [], "math"),
        ([["B"], ["A"]], [], "choice"),
        ([["B"], ["A"]], ["x", "y"], "choice"),
        ([["stop"] * 10], [], "textvqa"),
        ([["the old house by the river side"]], [], "anls"),
    ],
)
def test_the_judge_suits_the_answers(answers: list[list[str]], choices: list[str], judge: str) -> None:
    rows = [NewQuestion("?", each, [], "train", "datasets", "exact", choices=choices) for each in answers]
    assert guess_judge(rows).judge == judge


def test_rows_with_choices_among_others_have_their_own_judge() -> None:
    rows = [
        NewQuestion("?", ["A"], [], "train", "datasets", "exact", choices=["x", "y"]),
        NewQuestion("?", ["3"], [], "train", "datasets", "exact"),
    ]
    found = guess_judge(rows)
    assert (found.judge, found.choices_judge) == ("numeric", "choice")
