"""Export and import: what is written is read by `datasets` and TRL as it is, and comes back as pairs."""

import base64
import json
import os
import shutil
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from store import open_store
from store.pairs import adopt_imported_pairs
from tests.support.command_line import BASE_MODEL, PROJECT, run_command
from tests.support.stores import run_here

FIXTURES = PROJECT / "tests" / "fixtures"


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """A finished run of two rounds, with images and six pairs, whose policy is the shipped model."""
    folder = tmp_path / "run"
    folder.mkdir()
    shutil.copy(FIXTURES / "store_m001.db", folder / "store.db")
    store = open_store(folder)
    with store.transaction():
        config = json.loads(store.value("SELECT configuration FROM run"))
        config["policy"]["model"] = str(BASE_MODEL)
        store.connection.execute("UPDATE run SET configuration = ?", (json.dumps(config),))
    store.close()
    return folder


def exported(run_dir: Path, what: str, name: str, *options: object) -> list[dict[str, Any]]:
    run_command("export", run_dir, what, "-o", run_dir / name, *options)
    return [json.loads(line) for line in (run_dir / name).read_text().splitlines()]


def test_pairs_are_exported_with_texts_images_and_origin(run_dir: Path) -> None:
    rows = exported(run_dir, "pairs", "pairs.jsonl")
    store = open_store(run_dir)
    assert len(rows) == store.value("SELECT count(*) FROM pair") == 6
    for row in rows:
        (detail,) = store.rows("SELECT * FROM pair_detail WHERE pair = ?", row["pair"])
        assert row["prompt"] == [{"role": "user", "content": f"{detail['question_text']}\nGive a short answer."}]
        assert row["chosen"] == [{"role": "assistant", "content": detail["chosen_text"]}]
        assert row["rejected"] == [{"role": "assistant", "content": detail["rejected_text"]}]
        (image,) = row["images"]
        stored = store.value("SELECT bytes FROM image WHERE sha256 = ?", json.loads(detail["images"])[0])
        assert base64.b64decode(image.removeprefix("data:image/png;base64,")) == stored
        assert row["chosen_weights"] == detail["chosen_weights"]
    store.close()


def test_rounds_rules_and_outcomes_filter(run_dir: Path) -> None:
    assert {row["round"] for row in exported(run_dir, "pairs", "one.jsonl", "--round", 1)} == {1}
    assert {row["rule"] for row in exported(run_dir, "pairs", "random.jsonl", "--rule", "random")} == {"random"}
    right = exported(run_dir, "samples", "right.jsonl", "--outcome", "correct", "--round", 1, "--round", 2)
    assert {row["outcome"] for row in right} == {"correct"}
    assert {row["round"] for row in right} == {1, 2}
    wrong = run_command("export", run_dir, "pairs", "-o", run_dir / "x.jsonl", "--outcome", "correct", check=2)
    assert "--outcome is for samples" in wrong.stderr
    for filtered, said in (
        (("pairs", "--rule", "rondom"), "no pair has this rule; there are pairs of random"),
        (("pairs", "--round", 77), "there is no such round; the last is 2"),
        (("samples", "--outcome", "corect"), "'corect' is not one of 'correct'"),
    ):
        what, *filters = filtered
        assert said in run_command("export", run_dir, what, "-o", run_dir / "x.jsonl", *filters, check=2).stderr
    assert not (run_dir / "x.jsonl").exists()
    assert "end it in .jsonl or .parquet" in run_command("export", run_dir, "pairs", "-o", "x.csv", check=2).stderr


@pytest.mark.heavy
@pytest.mark.parametrize("form", ["parquet", "json"])
def test_datasets_reads_the_export_and_trl_trains_on_it(run_dir: Path, form: str) -> None:
    from datasets import load_dataset
    from transformers import AutoModelForImageTextToText, AutoProcessor
    from trl import DPOConfig, DPOTrainer

    file = run_dir / ("pairs.parquet" if form == "parquet" else "pairs.jsonl")
    run_command("export", run_dir, "pairs", "-o", file)
    dataset = load_dataset(form, data_files=str(file), split="train", cache_dir=str(run_dir / "cache"))
    assert len(dataset) == 6
    if form == "parquet":
        assert dataset[0]["images"][0].size == (64, 64)
    arguments = DPOConfig(
        output_dir=str(run_dir / "dpo"),
        max_steps=1,
        per_device_train_batch_size=2,
        max_length=None,
        use_cpu=True,
        bf16=False,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
    )
    trainer = DPOTrainer(
        AutoModelForImageTextToText.from_pretrained(BASE_MODEL),
        args=arguments,
        train_dataset=dataset,
        processing_class=AutoProcessor.from_pretrained(BASE_MODEL),
    )
    assert trainer.train().training_loss == pytest.approx(0.693, abs=0.01)


@pytest.mark.parametrize("name", ["pairs.jsonl", "pairs.parquet"])
def test_an_export_is_imported_once_for_the_next_update(run_dir: Path, name: str) -> None:
    run_command("export", run_dir, "pairs", "-o", run_dir / name)
    assert json.loads(run_command("import", run_dir, "pairs", run_dir / name, "--json").stdout) == {"imported": 6}
    assert json.loads(run_command("import", run_dir, "pairs", run_dir / name, "--json").stdout) == {"imported": 0}
    store = open_store(run_dir)
    assert store.value("SELECT count(*) FROM question") == 30
    assert adopt_imported_pairs(store, 2, lambda text: list(text.encode())) == 6
    assert adopt_imported_pairs(store, 2, lambda text: list(text.encode())) == 0
    rows = store.rows("SELECT * FROM pair_detail WHERE source = 'imported' ORDER BY pair")
    original = store.rows("SELECT * FROM pair_detail WHERE source = 'sampled' ORDER BY pair")
    for row, old in zip(rows, original, strict=True):
        for key in ("question", "images", "style", "chosen_text", "rejected_text"):
            assert row[key] == old[key]
        assert (row["rule"], row["chosen_author"], row["imported_from"]) == ("imported", "imported", name)
    assert [row["imported_line"] for row in rows] == [1, 2, 3, 4, 5, 6]
    store.close()


def test_pairs_of_other_origin_bring_their_own_questions(run_dir: Path) -> None:
    image = base64.b64encode((FIXTURES / "red.png").read_bytes()).decode()
    rows = [
        {"prompt": "What is new?\nGive a short answer.", "chosen": "this", "rejected": "that"},
        {"prompt": [{"role": "user", "content": "And here?"}], "chosen": "a", "rejected": "b",
         "images": [f"data:image/png;base64,{image}"]},
    ]  # fmt: skip
    file = run_dir / "mine.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    run_command("import", run_dir, "pairs", file)
    store = open_store(run_dir)
    found = store.rows(
        "SELECT question.text, split, style FROM imported_pair JOIN question ON question.id = question ORDER BY 1"
    )
    assert [tuple(row) for row in found] == [
        ("And here?", "imported", "direct"),
        ("What is new?", "imported", "direct"),
    ]
    store.close()


GOOD = {"prompt": "p", "chosen": "c", "rejected": "r"}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({**GOOD, "chosen": 3}, "'chosen' must be a text"),
        ({"prompt": "p", "chosen": "c"}, "'rejected' must be a text"),
        ({**GOOD, "rejected": "c"}, "the same text"),
        ({**GOOD, "images": ["../../secret.png"]}, "lies outside"),
        ({**GOOD, "images": ["http://somewhere/x.png"]}, "cannot be read"),
        ({**GOOD, "images": ["data:image/png;base64,!!"]}, "not base64"),
        ({**GOOD, "images": ["data:image/png;base64,aGVsbG8="]}, "the image cannot be read"),
        ({**GOOD, "prompt": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}, "one message"),
        ({**GOOD, "style": "sonnet"}, "'style' one of"),
        ([1, 2], "must be a JSON object"),
    ],
)
def test_a_malformed_row_is_named_and_nothing_is_imported(run_dir: Path, row: object, message: str) -> None:
    file = run_dir / "bad.jsonl"
    file.write_text(json.dumps(GOOD) + "\n\n" + json.dumps(row) + "\n")
    done = run_command("import", run_dir, "pairs", file, check=None)
    assert done.returncode in (1, 2)
    assert "line 3" in done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    store = open_store(run_dir)
    assert store.value("SELECT count(*) FROM imported_pair") == 0
    assert store.value("SELECT count(*) FROM question") == 30
    store.close()


def test_a_file_that_cannot_be_written_leaves_what_was_there(run_dir: Path) -> None:
    done = run_command("export", run_dir, "pairs", "-o", run_dir / "no" / "pairs.jsonl", check=2)
    assert f"{run_dir / 'no'} is no directory; make it first" in done.stderr
    assert not list(run_dir.glob(".*.tmp"))


def test_the_system_prompt_is_exported_and_comes_back(run_dir: Path) -> None:
    with closing(open_store(run_dir)) as store, store.transaction():
        config = json.loads(store.value("SELECT configuration FROM run"))
        config["policy"]["system_prompt"] = "Be brief."
        store.connection.execute("UPDATE run SET configuration = ?", (json.dumps(config),))
    rows = exported(run_dir, "pairs", "pairs.jsonl")
    assert all(row["prompt"][0] == {"role": "system", "content": "Be brief."} for row in rows)
    assert all([message["role"] for message in row["prompt"]] == ["system", "user"] for row in rows)
    done = run_command("import", run_dir, "pairs", run_dir / "pairs.jsonl", "--json")
    assert json.loads(done.stdout) == {"imported": 6}
    rows[0]["prompt"][0]["content"] = "Be long."
    (run_dir / "other.jsonl").write_text(json.dumps(rows[0]) + "\n")
    other = run_command("import", run_dir, "pairs", run_dir / "other.jsonl", check=2)
    assert "its system prompt is not the run's policy.system_prompt; leave it out" in other.stderr


def test_a_pair_too_long_for_the_model_is_refused_by_its_line(run_dir: Path) -> None:
    file = run_dir / "long.jsonl"
    for long in ({"chosen": "red " * 5_000}, {"rejected": "red " * 5_000}, {"prompt": "which one? " * 2_000}):
        file.write_text(json.dumps({**GOOD, "chosen": "red " * 80}) + "\n" + json.dumps({**GOOD, **long}) + "\n")
        done = run_command("import", run_dir, "pairs", file, check=2)
        assert "line 2" in done.stderr
        assert "are more than the 512 that" in done.stderr
    store = open_store(run_dir)
    assert store.value("SELECT count(*) FROM imported_pair") == 0
    store.close()


def test_a_file_whose_name_is_no_unicode_is_imported(run_dir: Path) -> None:
    file = Path(os.fsdecode(os.fsencode(run_dir) + b"/pairs\xff.jsonl"))
    file.write_text(json.dumps(GOOD) + "\n")
    assert json.loads(run_here("import", run_dir, "pairs", file, "--json").stdout) == {"imported": 1}
