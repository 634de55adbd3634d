"""Accuracy is reported in the styles that are trained, guarded or asked for; runs of earlier versions keep both."""

from pathlib import Path
from typing import Any

import pytest

from loop.config.load import parse_config
from loop.config.run_identity import record_run
from loop.evaluation.reported_styles import reported_styles
from store import open_store
from tests.support.scripted_run import in_process, run_scripted, scripted_config
from tests.support.stores import change


def styles_of(folder: Path, **tables: dict[str, Any]) -> list[str]:
    config = parse_config({"policy": {"model": "m"}, "questions": {"source": "easy_vqa"}, **tables}, "here")
    store = open_store(folder, create=True)
    record_run(store, config)
    found = reported_styles(store)
    store.close()
    return found


@pytest.mark.parametrize(
    ("tables", "expected"),
    [
        ({}, ["cot"]),
        ({"sampling": {"style": "direct"}}, ["direct"]),
        ({"gate": {"guard": ["direct"]}}, ["cot", "direct"]),
        ({"gate": {"guard": ["direct"], "rule": "always"}}, ["cot"]),
        ({"sampling": {"style": "direct"}, "evaluation": {"styles": ["cot"]}}, ["cot", "direct"]),
    ],
)
def test_styles_are_those_trained_guarded_or_asked_for(
    tmp_path: Path, tables: dict[str, dict[str, Any]], expected: list[str]
) -> None:
    assert styles_of(tmp_path, **tables) == expected


def test_a_run_of_an_earlier_version_goes_on_in_both_styles(tmp_path: Path) -> None:
    styles_of(tmp_path)
    change(tmp_path, "UPDATE run SET configuration = json_remove(configuration, '$.evaluation.styles')")
    assert styles_of(tmp_path, evaluation={"styles": ["cot"]}) == ["cot", "direct"]


def test_styles_may_be_added_when_a_run_goes_on(tmp_path: Path) -> None:
    assert styles_of(tmp_path) == ["cot"]
    assert styles_of(tmp_path, evaluation={"styles": ["direct"]}) == ["cot", "direct"]


def test_no_round_answers_in_a_style_that_nobody_trains(tmp_path: Path) -> None:
    config = scripted_config(tmp_path, evaluation={"styles": []})
    assert in_process(lambda: run_scripted(tmp_path / "run", config)) == 0
    store = open_store(tmp_path / "run", read_only=True)
    assert [row["style"] for row in store.rows("SELECT DISTINCT style FROM evaluation")] == ["cot"]
    store.close()
