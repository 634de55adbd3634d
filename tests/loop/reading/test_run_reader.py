"""`open_run`: frames that say what the store holds, and the page that documents them."""

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from loop import Run, open_run
from loop.errors import InputError
from loop.reading import frames
from store import Store, StoreError, open_store
from store.maintenance.archive import archive_round, rounds_to_archive
from tests.support.command_line import PROJECT
from tests.support.stores import modules_of

PAGE = (PROJECT / "docs" / "notebook.md").read_text()
FRAMES = {
    "rounds": frames.ROUNDS,
    "samples": frames.SAMPLES,
    "pairs": frames.PAIRS,
    "questions": frames.QUESTIONS,
    "evaluations": frames.EVALUATIONS,
    "policies": frames.POLICIES,
    "training_steps": frames.STEPS,
}


@pytest.fixture
def run(scripted_run_dir: Path) -> Run:
    return open_run(scripted_run_dir)


def test_the_code_of_the_page_runs_as_written(
    scripted_run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "demo").symlink_to(scripted_run_dir)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) >= 6
    for block in blocks:
        exec(block, names)  # noqa: S102 (the page is ours)
    assert pd.read_parquet("round-1.parquet").equals(names["run"].samples(round=1)[lambda f: list(f.columns)])
    questions = names["run"].questions()
    again = pd.read_parquet("questions.parquet")
    assert [list(each) for each in again.answers] == list(questions.answers)
    assert len(names["pairs"])
    assert len(names["wrong"])


@pytest.mark.parametrize("name", FRAMES)
def test_every_column_is_documented_typed_and_there_without_rows(name: str, run: Run, tmp_path: Path) -> None:
    section = PAGE.partition(f"\n### {name}\n")[2].partition("\n### ")[0]
    assert set(FRAMES[name]) == set(re.findall(r"`(\w+)`", "\n".join(re.findall(r"^\|([^|]*)\|", section, re.M))))
    full = getattr(run, name)()
    open_store(tmp_path, create=True).close()
    empty = getattr(open_run(tmp_path), name)()
    assert len(full) > 0
    assert len(empty) == 0
    assert list(full.columns) == list(empty.columns) == list(FRAMES[name])
    assert [str(kind) for kind in full.dtypes] == [str(kind) for kind in empty.dtypes]


def test_the_frames_hold_what_the_store_holds(run: Run, scripted_run_dir: Path) -> None:
    store = open_store(scripted_run_dir, read_only=True)
    samples = run.samples()
    assert len(samples) == store.value("SELECT count(*) FROM sample")
    log = run.rounds().set_index("round")
    ours = samples[samples.author == "policy"]
    assert log.pass_rate[1] == (ours[ours["round"] == 1].outcome == "correct").mean()
    cot = run.evaluations(style="cot", split="test", policy=int(log.policy[1]))
    assert log.cot_accuracy[1] == (cot.outcome == "correct").mean()
    assert log.cot_low[1] < log.cot_accuracy[1] < log.cot_high[1]
    assert log.seconds[1] == pytest.approx(log.loc[1, [f"{phase}_seconds" for phase in frames.PHASES]].sum())
    pairs = run.pairs(round=[1, 2])
    texts = samples.set_index("sample").text
    assert (pairs.chosen_text == texts.loc[pairs.chosen_sample].to_numpy()).all()
    assert list(run.policies().parent[1:]) == store_parents(store)
    assert run.training_steps(round=1).loss.iloc[-1] == pytest.approx(log.training_loss[1])
    assert run.configuration["sampling"]["samples"] == 6
    store.close()


def store_parents(store: Store) -> list[int]:
    return [row["parent"] for row in store.rows("SELECT parent FROM policy WHERE number > 0 ORDER BY number")]


def test_filters_choose_and_limits_cut(run: Run) -> None:
    every = run.samples()
    asked = every.question.unique()[:3]
    for filters, expected in (
        ({"round": 2, "outcome": "wrong"}, every[(every["round"] == 2) & (every.outcome == "wrong")]),
        ({"question": asked}, every[every.question.isin(asked)]),
        ({"question": np.int64(asked[0]), "style": "cot"}, every[every.question == asked[0]]),
        ({"policy": every.policy.dropna().iloc[-1]}, every[every.policy == every.policy.dropna().iloc[-1]]),
        ({"author": ["teacher"]}, every[every.author == "teacher"]),
        ({"split": "test"}, every[:0]),
        ({"limit": 7}, every[:7]),
        ({"round": 1, "limit": 5}, every[every["round"] == 1][:5]),
    ):
        found = run.samples(**filters)
        assert list(found["sample"]) == list(expected["sample"]), filters
    assert len(run.questions(split="test", limit=2)) == 2
    with pytest.raises(InputError, match="outcome = 'wrongs' is unknown; known: correct, wrong"):
        run.samples(outcome="wrongs")
    with pytest.raises(InputError, match="limit = -1"):
        run.pairs(limit=-1)


def test_archived_rounds_read_like_the_others(scripted_run_dir: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(scripted_run_dir, copy, symlinks=True)
    run = open_run(copy)
    filters: list[dict[str, Any]] = [
        {},
        {"round": 1, "outcome": "wrong"},
        {"limit": 20},
        {"split": "train", "question": [1, 2]},
    ]
    before = [run.samples(**each) for each in filters]
    log = run.rounds()
    store = open_store(copy)
    assert sum(archive_round(store, number) for number in rounds_to_archive(store, 0)) > 0
    store.close()
    for each, expected in zip(filters, before, strict=True):
        pd.testing.assert_frame_equal(run.samples(**each), expected)
    pd.testing.assert_frame_equal(run.rounds(), log)


def test_it_reads_while_a_run_writes_and_changes_nothing(scripted_run_dir: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(scripted_run_dir, copy, symlinks=True)
    run = open_run(copy)
    writer = open_store(copy)
    count = len(run.samples())
    with writer.transaction():
        writer.connection.execute("UPDATE sample SET text = '=HYPERLINK(1)' WHERE id = 1")
        assert len(run.samples()) == count
        assert run.samples().text[0] != "=HYPERLINK(1)"
    assert run.samples().text[0] == "=HYPERLINK(1)"
    with run._reading() as store, pytest.raises(Exception, match="readonly"):
        store.connection.execute("DELETE FROM verdict")
    writer.close()


def test_a_directory_without_a_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="holds no run"):
        open_run(tmp_path / "nothing")


def test_importing_loop_loads_nothing_heavy() -> None:
    heavy = {"torch", "transformers", "vllm", "pandas", "datasets"}
    assert heavy & modules_of("--help") == set()
