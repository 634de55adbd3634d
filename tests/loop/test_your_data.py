"""From a Parquet set with images to an accepted round and its report: `docs/your_data.md`, run as it is written."""

import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.support.command_line import PROJECT, log_of, run_command
from tests.support.forked import run_forked
from tests.support.real_runs import query
from tests.support.scene_sets import scene_rows, write_scenes

PAGE = (PROJECT / "docs" / "your_data.md").read_text()
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
SHORTER = (
    ("50_000", "1_000", "the slow test has fifty thousand rows; they take minutes to write, to read and to hold out"),
    (
        "--rounds 1",
        "--rounds 1 --set sampling.questions=300 --set cold_start.epochs=1",
        "a quarter of the round's 8,000 chains and of the cold start's steps suffices for pairs and an accepted round",
    ),
)
"""Text of the page, what the fast test has in its place, and why. Nothing else differs, and every command is run."""


def follow(folder: Path, shorter: tuple[tuple[str, str, str], ...] = ()) -> Path:
    """Run the page's `bash` blocks in order, in an empty folder beside the checkout; returns the reader's folder.

    Its `json` block is the reader's file. Any other block must have been printed or written by then, but for figures.
    """
    (folder / "ratchet").symlink_to(PROJECT)
    here, printed = folder, ""
    for language, block in BLOCK.findall(PAGE):
        if language == "bash":
            for text, less, _ in shorter:
                block = block.replace(text, less)
            here, more = run_block(block, here)
            printed += more
        elif language == "json":
            write_questions(here / "questions.jsonl", block)
        else:
            written = "".join(file.read_text() for file in here.glob("*.toml"))
            assert forms(block) - forms(printed + written) == set(), block
    return here


def run_block(commands: str, here: Path) -> tuple[Path, str]:
    """Run a block with bash; returns the folder that it ends in, and what it prints with lines of full length."""
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", f"{commands}pwd"],
        cwd=here,
        env={**os.environ, "COLUMNS": "200", "HF_DATASETS_CACHE": str(here / "cache")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{commands}{done.stdout[-3000:]}"
    return Path(done.stdout.splitlines()[-1]), done.stdout


def write_questions(file: Path, rows: str) -> None:
    """A JSONL file of questions, with the images that its rows name."""
    file.write_text(rows)
    for name in (name for row in rows.splitlines() for name in json.loads(row).get("images", [])):
        (file.parent / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (64, 64)).save(file.parent / name)


def forms(text: str) -> set[str]:
    """The lines of a text without what differs between runs: figures, folders, frames' widths, significance."""
    text = re.sub(r"(/[^\s/]+)+/mine/", "/mine/", text)
    text = re.sub(r"\d+m\d+s", "0 s", text)
    text = re.sub(r"[+-]?\d[\d,.]*(e-\d+)?\*?", "0", text)
    return {" ".join(re.sub("─+", "─", line).split()) for line in text.splitlines()} - {""}


def check_what_is_left(mine: Path, rows: int) -> None:
    """The run of the page, and its files: an accepted round, and pairs and samples with the set's own images."""
    start, first = log_of(mine / "runs" / "mine")
    assert start["decision"] == first["decision"] == "accepted"
    assert first["pairs"] > 0
    assert query(mine / "runs" / "mine", "SELECT count(*) FROM question") == [(rows,)]
    run_command("export", mine / "runs" / "mine", "samples", "-o", mine / "samples.parquet")
    images = {hashlib.sha256(row["image"]["bytes"]).hexdigest() for row in scene_rows(rows)}
    stored = {digest for (digest,) in query(mine / "runs" / "mine", "SELECT sha256 FROM image")}
    assert stored == images
    loaded(mine / "pairs.parquet", first["pairs"], images, mine)
    loaded(mine / "samples.parquet", first["samples"], images, mine)
    assert (mine / "runs" / "mine" / "policy" / "current" / "config.json").is_file()
    assert "data:image/png;base64," in (mine / "seen.html").read_text()
    assert 'id="title-answers-table"' in (mine / "report.html").read_text()


def loaded(file: Path, rows: int, images: set[str], folder: Path) -> None:
    """`datasets` reads an exported file as it is, its images the set's own bytes."""
    import datasets

    found: Any = datasets.load_dataset("parquet", data_files=str(file), split="train", cache_dir=str(folder / "cache"))
    assert len(found) == rows
    assert found[0]["images"][0].size == (64, 64)
    raw = found.cast_column("images", datasets.List(datasets.Image(decode=False)))
    assert {hashlib.sha256(each["bytes"]).hexdigest() for row in raw for each in row["images"]} <= images


def test_every_command_of_the_page_is_in_a_block_that_is_run() -> None:
    blocks = BLOCK.findall(PAGE)
    assert PAGE.count("```") == 2 * len(blocks)
    assert {language for language, block in blocks if "python" in block or "run_loop.py" in block} == {"bash"}
    commands = "".join(block for language, block in blocks if language == "bash")
    assert [commands.count(text) for text, _, _ in SHORTER] == [1, 1]


@pytest.mark.heavy
def test_the_page_leads_from_a_set_to_its_report(tmp_path: Path) -> None:
    check_what_is_left(follow(tmp_path, SHORTER), 1000)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_page_does_so_with_its_fifty_thousand_rows(tmp_path: Path) -> None:
    check_what_is_left(follow(tmp_path), 50_000)


MOST_MB = 100
"""What a larger set may take more than a small one; its images are at least 200 MB more."""


def grow(path: str, folder: str) -> None:
    """Print by how many MB the peak of this process grows while a set is ingested, tokenizer and libraries loaded."""
    import datasets  # noqa: F401

    from benchmarks.datasets_source import ingested

    Path(folder).mkdir()
    sys.stdout.write(str(ingested(Path(path), Path(folder))["more_mb"]))


def write_scenes_of(path: str, rows: int, group: int) -> None:
    """In a process of its own: what is written is held there."""
    write_scenes(Path(path), rows, group=group, pad=20_000)


@pytest.mark.parametrize(("fewer", "rows"), [(2_000, 12_000), pytest.param(12_000, 50_000, marks=pytest.mark.slow)])
def test_memory_stays_flat_however_many_rows_there_are(fewer: int, rows: int, tmp_path: Path) -> None:
    """A gigabyte of images takes about as much as 240 MB do, and those as much as 40 MB, in row groups of 20 MB."""
    took = []
    for count in (fewer, rows):
        path = tmp_path / str(count) / "scenes.parquet"
        run_forked(write_scenes_of, str(path), count, 1_000)
        assert path.stat().st_size > 20_000 * count
        took.append(int(run_forked(grow, str(path), str(tmp_path / str(count) / "run")).stdout.split()[-1]))
    assert took[1] - took[0] < MOST_MB, took
