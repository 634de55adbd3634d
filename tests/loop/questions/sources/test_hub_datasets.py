"""Source "datasets": every format, splits that stay apart, images, and what is wrong with a set, in one line."""

import base64
import csv
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from loop.config.load import parse_config
from loop.config.questions import QuestionsConfig
from loop.errors import InputError
from loop.questions.ingest import ingest
from loop.questions.registry import SOURCES
from loop.questions.sources.hub_datasets import read_questions
from loop.questions.splits import drawn_split
from loop.terminal.console import Console
from store import StoreError, open_store
from store.new_questions import NewQuestion
from store.questions import count_images, has_questions
from tests.support.command_line import BASE_MODEL, PROJECT
from tests.support.scene_sets import refusing_hub, scene_rows, solid, write_scenes

COLUMNS: dict[str, str | list[str]] = {
    "question": "question",
    "answer": "answer",
    "images": "image",
    "kind": "kind",
}
TEXTS: dict[str, str | list[str]] = {"question": "question", "answer": "answer"}


def settings(path: Path | str, **keys: Any) -> QuestionsConfig:
    return QuestionsConfig(**{"source": "datasets", "path": str(path), "columns": COLUMNS, **keys})


def read(path: Path, **keys: Any) -> list[NewQuestion]:
    return list(read_questions(settings(path, **keys)))


def parquet(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def told(questions: list[NewQuestion]) -> list[tuple[Any, ...]]:
    return [(each.text, list(each.answers), each.digests, each.split) for each in questions]


@pytest.mark.parametrize("form", ["parquet", "folder", "arrow", "saved", "saved splits", "jsonl", "csv", "tsv"])
def test_every_format_gives_the_same_questions(form: str, tmp_path: Path) -> None:
    import datasets

    rows = [{"question": f"How many are {n}?", "answer": str(n)} for n in range(80)]
    whole = datasets.Dataset.from_list(rows)
    path = tmp_path / {"parquet": "a.parquet", "jsonl": "a.jsonl", "csv": "a.csv", "tsv": "a.tsv"}.get(form, "set")
    if form in ("parquet", "folder"):
        whole.to_parquet(path if form == "parquet" else path / "train-00000-of-00001.parquet")
    elif form == "arrow":
        whole.save_to_disk(path)
        path = next(path.glob("*.arrow"))
    elif form == "saved":
        whole.save_to_disk(path)
    elif form == "saved splits":
        datasets.DatasetDict({"train": whole}).save_to_disk(path)
    elif form == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        with path.open("w") as file:
            writer = csv.DictWriter(file, ["question", "answer"], delimiter="," if form == "csv" else "\t")
            writer.writeheader()
            writer.writerows(rows)
    found = read(path, columns=TEXTS)
    assert [(each.text, each.answers) for each in found] == [(row["question"], [row["answer"]]) for row in rows]
    config = settings(path, columns=TEXTS)
    assert [each.split for each in found] == [drawn_split(("text", row["question"]), config) for row in rows]
    assert {each.split for each in found} == {"train", "gate", "test"}
    assert found[3].where == f"{path}, split 'train', row 3"
    assert found[3].external_id == "train:3"


def test_images_are_features_bytes_data_urls_or_paths(tmp_path: Path) -> None:
    images = [solid(n) for n in range(4)]
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "3.png").write_bytes(images[3])
    wanted = [[image] for image in images]
    forms: list[Any] = [
        [{"bytes": image, "path": None} for image in images[:3]] + [{"bytes": None, "path": "pictures/3.png"}],
        images,
        [[image] for image in images],
        [f"data:image/png;base64,{base64.b64encode(image).decode()}" for image in images[:3]] + ["pictures/3.png"],
        ["pictures/3.png"] * 4,
    ]
    for number, form in enumerate(forms):
        rows = [{"question": f"{n}?", "answer": "x", "kind": "k", "image": each} for n, each in enumerate(form)]
        found = read(parquet(tmp_path / f"{number}.parquet", rows))
        expected = [[images[3]]] * 4 if number == 4 else wanted
        assert sorted(each.images[0] for each in found) == sorted(each[0] for each in expected), form[0]


def test_a_folder_of_images_is_a_set_with_folders_as_answers(tmp_path: Path) -> None:
    for number, name in enumerate(["cat", "dog"] * 20):
        path = tmp_path / name / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(solid(number))
    found = read(tmp_path, columns={"question": ["What animal is it?"], "answer": "label", "images": "image"})
    assert Counter((each.text, each.answers[0]) for each in found) == {
        ("What animal is it?", "cat"): 20,
        ("What animal is it?", "dog"): 20,
    }
    assert {each.images[0] for each in found} == {solid(n) for n in range(40)}


def test_held_out_rows_share_nothing_with_trained_rows(tmp_path: Path) -> None:
    def row(question: str, image: int | None, group: str | None = None) -> dict[str, Any]:
        return {"question": question, "answer": "x", "image": None if image is None else solid(image), "group": group}

    folder = tmp_path / "data"
    parquet(folder / "test-00000-of-00001.parquet", [row("one", 1, "a"), row("text", None)])
    parquet(folder / "val-00000-of-00001.parquet", [row("two", 1), row("two", 2), row("text", None)])
    train = [row("three", 1), row("three", 2), row("three", 3), row("text", None), row("other", None), row("g", 9, "a")]
    parquet(folder / "train-00000-of-00001.parquet", train)
    columns = {"question": "question", "answer": "answer", "images": "image", "group": "group"}
    splits = {"train": "train", "gate": "val", "test": "test"}
    said = Said()
    found = list(read_questions(settings(tmp_path, columns=columns, splits=splits), said))
    assert [(each.split, each.text, each.split_from) for each in found] == [
        ("test", "one", "source"),
        ("test", "text", "source"),
        ("gate", "two", "source"),
        ("train", "three", "source"),
        ("train", "other", "source"),
    ]
    assert [line.split(" for split")[0] for line in said.lines] == ["2 rows", "4 rows"]
    assert "row 0, which split 'test' has" in said.lines[0]


def test_drawn_rows_stay_with_rows_that_share_their_image(tmp_path: Path) -> None:
    """Lists of images, two image columns and groups tie rows; each is drawn in the same way in both passes."""
    rows = [
        {"question": f"{n}?", "answer": "x", "image": [solid(n), solid(n // 4 + 500)], "other": solid(n), "g": n // 8}
        for n in range(400)
    ]
    path = parquet(tmp_path / "a.parquet", rows)
    for columns in (
        {"question": "question", "answer": "answer", "images": "image"},
        {"question": "question", "answer": "answer", "images": ["image", "other"]},
        {"question": "question", "answer": "answer", "images": "other", "group": "g"},
    ):
        found = read(path, columns=columns)
        size = 8 if "group" in columns else 4
        together = [{each.split for each in found[n : n + size]} for n in range(0, 400, size)]
        assert all(len(splits) == 1 for splits in together)
        assert {each.split for each in found} == {"train", "gate", "test"}


def test_limit_and_filter_choose_rows(tmp_path: Path) -> None:
    rows = [{"question": f"{n}?", "answer": "x", "level": n % 5, "subject": "ab"[n % 2]} for n in range(100)]
    path = parquet(tmp_path / "a.parquet", rows)
    found = read(path, columns=TEXTS, filter=["level >= 3", 'subject == "a"'], limit=7)
    assert [each.text for each in found] == [f"{n}?" for n in range(100) if n % 5 >= 3 and n % 2 == 0][:7]
    assert [each.text for each in read(path, columns=TEXTS, filter=["level in [1, 2]"], limit=2)] == ["1?", "2?"]
    with pytest.raises(InputError, match=r"row 0: questions.filter: 0 < 'x' compares values of different kinds"):
        read(path, columns=TEXTS, filter=['level < "x"'])
    with pytest.raises(InputError, match=r"no row is left; look at questions.filter"):
        read(path, columns=TEXTS, filter=["level > 9"])
    with pytest.raises(InputError, match=r"questions.filter: .* has no column 'leval'; did you mean 'level'\?"):
        read(path, columns=TEXTS, filter=["leval > 9"])


def test_rows_with_choices_have_a_judge_of_their_own(tmp_path: Path) -> None:
    rows = [
        {"question": "which?", "answer": "B", "options": ["x", "y"]},
        {"question": "how much?", "answer": "1/2", "options": []},
    ]
    columns = {"question": ["{question}", "{options}"], "answer": "answer", "choices": "options"}
    path = parquet(tmp_path / "a.parquet", rows)
    found = read(path, columns=columns, judge="math", choices_judge="choice")
    assert [(each.text, each.judge, each.choices) for each in found] == [
        ("which?\nA. x\nB. y", "choice", ["x", "y"]),
        ("how much?", "math", []),
    ]


class Said(Console):
    """A console that keeps what is said."""

    def __init__(self) -> None:
        super().__init__(quiet=True)
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


def test_rows_that_the_filter_leaves_out_are_counted(tmp_path: Path) -> None:
    rows = [{"question": f"{n}?", "answer": "x", "level": n % 5} for n in range(100)]
    said = Said()
    list(read_questions(settings(parquet(tmp_path / "a.parquet", rows), columns=TEXTS, filter=["level >= 3"]), said))
    assert said.lines == ["60 rows for split 'train' are left out by questions.filter"]


GOOD = {"question": "?", "answer": "x", "image": solid(1), "kind": "k"}

BAD_ROWS: dict[str, tuple[dict[str, Any], str]] = {
    "no question": ({"question": " "}, "row 1, column 'question': the question is empty"),
    "no answer": ({"answer": None}, "row 1, column 'answer': has no answer. Many sets keep"),
    "an address": ({"image": b"", "link": "https://example.org/a.png"}, "row 1, column 'link': 'https://example.org"),
    "outside": ({"link": "../../etc/passwd"}, "column 'link': image '../../etc/passwd' lies outside"),
    "absent": ({"link": "no.png"}, "row 1, column 'link': image 'no.png' cannot be read"),
    "truth value": ({"truth": True}, "row 1, column 'truth': is a truth value; give the answers as texts"),
}


@pytest.mark.parametrize("fault", BAD_ROWS)
def test_a_broken_row_is_named_by_index_and_column(fault: str, tmp_path: Path) -> None:
    change, said = BAD_ROWS[fault]
    rows = [{**GOOD, "link": None, "truth": None}, {**GOOD, "link": None, "truth": None, **change}]
    columns: dict[str, str | list[str]] = {**COLUMNS}
    if "link" in change:
        columns["images"] = "link"
    if "truth" in change:
        columns["answer"], rows[0]["truth"] = "truth", False
        said = said.replace("row 1", "row 0")
    with pytest.raises(InputError) as caught:
        read(parquet(tmp_path / "a.parquet", rows), columns=columns)
    assert said in str(caught.value), str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"no image", solid(1)[:40], b""])
def test_a_corrupt_image_is_named_and_nothing_is_ingested(content: bytes, tmp_path: Path) -> None:
    rows = list(scene_rows(40))
    rows[30]["image"]["bytes"] = content or None
    if not content:
        rows[30]["image"]["path"] = None
    path = parquet(tmp_path / "a.parquet", rows)
    config = parse_config(
        {
            "policy": {"model": str(BASE_MODEL)},
            "teacher": {"enabled": False},
            "questions": {"source": "datasets", "path": str(path), "columns": COLUMNS},
        },
        "test",
    )
    (tmp_path / "run").mkdir()
    store = open_store(tmp_path / "run", create=True)
    with pytest.raises((InputError, StoreError), match=r"row 30, column 'image': .*image"):
        ingest(store, config, SOURCES["datasets"], Console(quiet=True))
    assert not has_questions(store)
    assert not count_images(store)


def test_a_missing_column_or_split_gets_similar_names(tmp_path: Path) -> None:
    path = write_scenes(tmp_path / "a.parquet", 20)
    with pytest.raises(InputError, match=r"columns.answer: .* has no column 'awnser'; did you mean 'answer'\?"):
        read(path, columns={**COLUMNS, "answer": "awnser"})
    with pytest.raises(InputError, match=r"no column 'prompt'; it has 'image', 'question', 'answer', 'kind'"):
        read(path, columns={**COLUMNS, "question": "Look. {prompt}"})
    with pytest.raises(InputError, match=r"splits.test: .* has no split 'testing'; it has 'train'"):
        read(path, splits={"train": "train", "test": "testing"})


def test_a_split_without_answers_is_refused_with_the_cure(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    parquet(folder / "train-00000-of-00001.parquet", [GOOD])
    parquet(folder / "test-00000-of-00001.parquet", [{**GOOD, "answer": ""}])
    with pytest.raises(InputError, match=r"split 'test', row 0, column 'answer': has no answer.*questions\.splits"):
        read(tmp_path, splits={"train": "train", "test": "test"})


def test_a_truncated_file_is_refused_with_its_last_row(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"question": "a", "answer": "b"}\n{"question": "a", "answ')
    with pytest.raises(InputError, match=str(path)):
        read(path, columns=TEXTS)
    path = write_scenes(tmp_path / "a.parquet", 300)
    content = path.read_bytes()
    path.write_bytes(content[:5000] + b"\0" * 5000 + content[10000:])
    with pytest.raises(
        InputError, match=r"a.parquet, split 'train': cannot be read after row|row \d+, column|cannot be"
    ):
        read(path)


HUB_SET = "owner/a-set"


def read_on(hub: dict[str, str]) -> str:
    """The error of reading a hub's set in a process with these variables; fails the test unless it is one line."""
    keys = {"source": "datasets", "path": HUB_SET, "columns": {"question": "q", "answer": "a"}}
    code = (
        "import sys, json; from loop.config.questions import QuestionsConfig; from loop.errors import InputError\n"
        "from loop.questions.sources.hub_datasets import read_questions\n"
        f"keys = json.loads({json.dumps(keys)!r})\n"
        "try: list(read_questions(QuestionsConfig(**keys)))\n"
        "except InputError as error: print(error)\n"
    )
    environment = {**os.environ, **hub}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=PROJECT, env=environment, check=False
    )
    assert not done.stderr, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 1
    return lines[0]


def test_an_unavailable_hub_set_is_one_line_with_the_cure() -> None:
    closed = read_on({"HF_ENDPOINT": "http://127.0.0.1:9"})
    assert "check the network, or download the set elsewhere (hf download owner/a-set" in closed
    offline = read_on({"HF_HUB_OFFLINE": "1"})
    assert "HF_HUB_OFFLINE is set" in offline
    with refusing_hub(403, "GatedRepo") as url:
        assert "gated: accept its terms at" in read_on({"HF_ENDPOINT": url})
    with refusing_hub(404, "RepoNotFound") as url:
        assert "no such set, or it is private" in read_on({"HF_ENDPOINT": url})


def test_a_mistyped_path_is_no_name_of_the_hub(tmp_path: Path) -> None:
    from loop.config.load import load_config

    recipe = tmp_path / "c.toml"
    text = '[policy]\nmodel = "m"\n[teacher]\nenabled = false\n[questions]\nsource = "datasets"\npath = "{}"\n'
    columns = '[questions.columns]\nquestion = "q"\nanswer = "a"\n'
    (tmp_path / "there").mkdir()
    for named, meant in (
        ("gone.parquet", str(tmp_path / "gone.parquet")),
        ("./gone", str(tmp_path / "gone")),
        ("there", str(tmp_path / "there")),
        ("owner/set", "owner/set"),
    ):
        recipe.write_text(text.format(named) + columns)
        assert load_config(str(recipe), []).questions.path == meant
    with pytest.raises(InputError, match=r"questions.path = .*gone: there is no such file or folder"):
        list(read_questions(settings(tmp_path / "gone")))
