"""Files of rows in their splits: a few questions over many images, files added to runs, and what is said of it."""

import hashlib
import io
import json
import random
import shutil
import tracemalloc
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageDraw

from loop.commands.dry_run import describe_plan
from loop.config.load import load_config
from loop.config.questions import QuestionsConfig
from loop.errors import InputError
from loop.questions.import_pairs import import_pairs
from loop.questions.ingest import ingest
from loop.questions.registry import SOURCES
from loop.questions.sources.jsonl import read_file
from loop.questions.split_table import SplitTable
from loop.terminal.console import Console
from store import Store, open_store
from store.new_questions import NewQuestion, add_questions
from tests.support.command_line import PROJECT, run_command

CONFIG = QuestionsConfig(source="jsonl", path="x")
DIGITS = 1797
IMAGES = 40


class Said(Console):
    """A console that keeps what it is given to say, and what it shows a bar for."""

    def __init__(self) -> None:
        super().__init__(quiet=True)
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


def write(folder: Path, rows: list[dict[str, Any]]) -> Path:
    path = folder / "questions.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of digits, two questions each: "Which digit is written?" and "Is the digit even?"."""
    folder, rng, rows = tmp_path_factory.mktemp("digits"), random.Random(1), []
    for n in range(DIGITS):
        digit, image = rng.randrange(10), Image.new("L", (12, 14), n % 200)
        ImageDraw.Draw(image).text((n // 200 % 5, n // 1000), str(digit), fill=255)
        image.save(folder / f"{n}.png")
        image_of = {"images": [f"{n}.png"]}
        rows.append({"question": "Which digit is written?", "answer": digit, **image_of})
        rows.append({"question": "Is the digit even?", "answer": "no" if digit % 2 else "yes", **image_of})
    return write(folder, rows)


@pytest.fixture
def shapes(tmp_path: Path) -> Path:
    """A folder with small images `0.png`, `1.png` ..., all different."""
    for n in range(IMAGES):
        Image.new("RGB", (2, 2), (n, 0, 0)).save(tmp_path / f"{n}.png")
    return tmp_path


def about(image: int, question: str = "what?", answer: str | None = "x", **more: Any) -> dict[str, Any]:
    return {"question": question, "images": [f"{image}.png"], **({"answer": answer} if answer else {}), **more}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    (tmp_path / "run").mkdir()
    return open_store(tmp_path / "run", create=True)


def splits_of(store: Store) -> dict[str, set[str]]:
    """The splits of each image in the store."""
    found = defaultdict(set)
    for each in store.rows("SELECT image, split FROM question_image JOIN question ON question.id = question"):
        found[each["image"]].add(each["split"])
    return found


@pytest.mark.heavy
def test_a_few_questions_over_many_images_are_held_out_by_image(digits: Path, store: Store) -> None:
    settings, said = load_config("my_data", [f"questions.path={digits}"]), Said()
    ingest(store, settings, SOURCES["jsonl"], said)
    assert all(len(splits) == 1 for splits in splits_of(store).values())
    rows = store.rows("SELECT split, count(*) AS rows FROM question GROUP BY split")
    shares = {row["split"]: row["rows"] / (2 * DIGITS) for row in rows}
    assert shares == pytest.approx({"train": 0.85, "gate": 0.05, "test": 0.1}, abs=0.02)
    answers = defaultdict(set)
    for row in store.rows("SELECT DISTINCT split, answers FROM question"):
        answers[row["split"]].add(json.loads(row["answers"])[0])
    assert set(answers["train"]) == {*"0123456789", "yes", "no"}
    assert answers["gate"] == answers["test"] == answers["train"]
    assert not [line for line in said.lines if line.startswith("warning")]
    table = [line.split() for line in said.lines[-4:]]
    assert table[0] == ["split", "rows", "answers", "images"]
    counts = {name: (int(rows.replace(",", "")), answers) for name, rows, answers, _ in table[1:]}
    assert counts == {split: (round(share * 2 * DIGITS), "12") for split, share in shares.items()}
    assert len({len(line) for line in said.lines[-4:]}) == 1
    plan = describe_plan(settings, digits.parent)
    assert all(f"    {line}" in plan for line in said.lines[-4:])


def test_the_same_image_in_two_files_is_one_image(shapes: Path) -> None:
    (shapes / "copy.png").write_bytes((shapes / "1.png").read_bytes())
    rows = [about(1, split="train"), {**about(1, split="test"), "images": ["copy.png"]}]
    with pytest.raises(InputError, match=r"line 2: its images .*'train' by .*line 1, 'test' by .*line 2; give rows"):
        read_file(write(shapes, rows), CONFIG)


def test_a_file_with_test_rows_puts_the_rest_in_train_and_gate(shapes: Path) -> None:
    config = QuestionsConfig(source="jsonl", path="x", held_out_share=0.4, gate_share=0.3)
    rows = [about(0, split="test"), about(0, "and this?"), *(about(n) for n in range(1, IMAGES))]
    splits = [question.split for question in read_file(write(shapes, rows), config)]
    assert splits[:2] == ["test", "test"], "an image ties the second row to the first"
    assert set(splits[2:]) == {"train", "gate"}
    unmarked = [question.split for question in read_file(write(shapes, rows[2:]), config)]
    assert [n for n, split in enumerate(unmarked) if split == "gate"] == [
        n for n, split in enumerate(splits[2:]) if split == "gate"
    ]


def test_rows_without_an_answer_keep_their_image_in_train(shapes: Path) -> None:
    config = QuestionsConfig(source="jsonl", path="x", unlabelled=True, held_out_share=0.9)
    rows = [about(n, answer=answer) for n in range(9) for answer in ("x", None)]
    assert {question.split for question in read_file(write(shapes, rows), config)} == {"train"}
    held_out = write(shapes, [about(1, answer=None), about(1, split="test")])
    with pytest.raises(InputError, match=r"line 1: has no answer.*held out.*leave the row out"):
        list(read_file(held_out, config))


def old_split(row: NewQuestion) -> str:
    """The split that commit df0f1a0 and those before it gave a row."""
    content = json.dumps([row.text, *row.answers]).encode()
    fraction = int.from_bytes(hashlib.sha256(content).digest()[:8]) / 2**64
    return "test" if fraction < 0.1 else "gate" if fraction < 0.15 else "train"


def test_a_run_that_an_older_version_began_keeps_its_splits(shapes: Path, store: Store) -> None:
    rows = [about(n % IMAGES, f"is it {n // IMAGES}?", f"{n}") for n in range(4 * IMAGES)]
    path = write(shapes, rows)
    add_questions(store, [replace(row, split=old_split(row)) for row in read_file(path, CONFIG)])
    before = store.rows("SELECT hash, split FROM question")
    leaky = {image: splits for image, splits in splits_of(store).items() if len(splits) > 1}
    assert leaky, "or this test shows nothing"
    assert add_questions(store, read_file(path, CONFIG, store=store)) == 0
    more = write(shapes, [*rows, *(about(n, "and now?") for n in range(IMAGES))])
    assert add_questions(store, read_file(more, CONFIG, store=store)) == IMAGES
    assert store.rows("SELECT hash, split FROM question")[: len(before)] == before
    now = splits_of(store)
    assert {image: splits for image, splits in now.items() if len(splits) > 1} == leaky
    added = store.rows("SELECT split, image FROM question JOIN question_image ON question = id WHERE text = 'and now?'")
    assert all(row["split"] == "train" for row in added if "train" in leaky.get(row["image"], ()))
    assert add_questions(store, read_file(more, CONFIG, store=store)) == 0


def test_the_stored_run_of_an_older_version_has_its_file_already(tmp_path: Path) -> None:
    fixture = PROJECT / "tests" / "fixtures" / "run_df0f1a0"
    shutil.copy(fixture / "store.db", tmp_path)
    opened = open_store(tmp_path)
    assert add_questions(opened, read_file(fixture / "questions.jsonl", CONFIG, store=opened)) == 0
    opened.close()


def test_an_added_file_with_a_part_of_a_group_is_refused(shapes: Path, store: Store) -> None:
    add_questions(store, read_file(write(shapes, [{"question": "a?", "answer": "x", "group": "g"}]), CONFIG))
    rows = [{"question": "b?", "answer": "x", "group": "g"}]
    with pytest.raises(InputError, match=r"line 1: a run does not keep groups; add the group's earlier rows too"):
        list(read_file(write(shapes, rows), CONFIG, store=store))
    whole = write(shapes, [{"question": "a?", "answer": "x", "group": "g"}, *rows])
    assert add_questions(store, read_file(whole, CONFIG, store=store)) == 1
    assert len({row["split"] for row in store.rows("SELECT split FROM question")}) == 1


def test_files_that_are_added_follow_the_images_of_the_run(shapes: Path, store: Store) -> None:
    add_questions(store, read_file(write(shapes, [about(1, split="test"), about(2, split="train")]), CONFIG))
    later = write(shapes, [about(1, "which?"), about(2, "which?"), *(about(n) for n in range(3, 9))])
    splits = [question.split for question in read_file(later, CONFIG, store=store)]
    assert splits[:2] == ["test", "train"]
    for row, complaint in (
        ({**about(1), "question": "both?", "images": ["2.png", "1.png"]}, "'train' by the run, 'test' by the run"),
        (about(1, "new?", split="train"), "'test' by the run, 'train' by"),
        (about(1, split="train"), "of split 'test' in the run"),
    ):
        with pytest.raises(InputError, match=f"line 1: .*{complaint}"):
            read_file(write(shapes, [row]), CONFIG, store=store)


def test_a_pair_about_a_held_out_image_is_refused(shapes: Path, store: Store) -> None:
    add_questions(store, read_file(write(shapes, [about(1, split="test"), about(2, split="train")]), CONFIG))
    settings = load_config("my_data", ["questions.path=x"])
    pairs = shapes / "pairs.jsonl"
    for image, refused in ((1, True), (2, False)):
        pair = {"prompt": "another question", "chosen": "a", "rejected": "b", "images": [f"{image}.png"]}
        pairs.write_text(json.dumps(pair))
        if refused:
            with pytest.raises(InputError, match="line 1: its image is held out"):
                import_pairs(store, settings, pairs, Said())
        else:
            assert import_pairs(store, settings, pairs, Said()) == 1


def question(n: int, split: str, answer: str, split_from: Any = "draw") -> NewQuestion:
    return NewQuestion(f"{n}?", [answer], [], split, "made", "exact", split_from=split_from)


def test_odd_splits_are_named() -> None:
    table = SplitTable()
    for n in range(400):
        table.count(question(n, "test" if n < 100 else "train", "yes" if n < 100 or n % 2 else "no"))
    missing, *shares = table.warnings(CONFIG)
    assert missing == (
        "split 'test' lacks answers that are common (in brackets how often they would be expected): 'no' (about 38)"
    )
    assert [share.split(" of ")[0] for share in shares] == [
        "split 'train' has 75.0%",
        "split 'test' has 25.0%",
        "split 'gate' has 0.0%",
    ]
    assert table.lines(CONFIG)[-1].startswith("warning: split 'gate'")


def test_few_rows_and_fixed_splits_give_no_warning_of_shares() -> None:
    few, named = SplitTable(), SplitTable()
    for n in range(199):
        few.count(question(n, "train", "x"))
    for n in range(400):
        named.count(question(n, "test" if n % 2 else "train", "x", "source"))
    assert few.warnings(CONFIG) == named.warnings(CONFIG) == []


def test_a_repeated_question_counts_once_and_is_told() -> None:
    table = SplitTable()
    for n in (1, 2, 3, 2, 2):
        table.count(question(n, "train", "x"))
    assert table.rows == {"train": 3}
    assert table.lines(CONFIG)[-1] == "left out: 2, each the same as an earlier question of its split"


def test_a_dry_run_says_what_is_wrong_with_a_row(shapes: Path) -> None:
    path = write(shapes, [about(1, split="train"), about(1, split="test")])
    done = run_command("run", "--config", "my_data", "--set", f"questions.path={path}", "--dry-run", check=2)
    assert f"# before it can run: {path}, line 2: its images" in " ".join(done.stdout.split())
    assert done.stderr.startswith(f"error: before it can run: {path}, line 2: its images")


def test_images_are_not_kept(tmp_path: Path) -> None:
    noise = random.Random(0)
    for n in range(40):
        buffer = io.BytesIO()
        Image.frombytes("RGB", (300, 300), noise.randbytes(270_000)).save(buffer, format="PNG")
        (tmp_path / f"{n}.png").write_bytes(buffer.getvalue())
    path = write(tmp_path, [about(n) for n in range(40)])
    tracemalloc.start()
    count = sum(1 for _ in read_file(path, CONFIG))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 40
    assert most < 4 * 270_000


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"question": "b"}, "needs 'answer'"),
        ({"question": "b", "candidates": ["x", "y"]}, "'better' must be 1 or 2"),
        (
            {"question": "b", "candidates": ["x", "y"], "better": 1, "choices": None},
            "no 'answer', 'answers' or 'choices'",
        ),
    ],
)
def test_a_fault_of_a_row_is_named_before_what_follows_from_it(
    tmp_path: Path, row: dict[str, Any], message: str
) -> None:
    held_out = {"question": "a", "answer": "x", "group": "g", "split": "test"}
    path = write(tmp_path, [held_out, {**row, "group": "g"}])
    with pytest.raises(InputError, match=f"line 2: .*{message}"):
        list(read_file(path, CONFIG))
