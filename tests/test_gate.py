"""The gate in whole runs of scripted weights: what it decides, and what the run does about it."""

import json
from pathlib import Path
from typing import Any

import pytest

from conftest import run_python
from store import Store, open_store

RUN = """
import json, sys
from pathlib import Path
import scripted_run
scripted_run.prepare()
scripted_run.TEST = 40
for name, (skills, tables) in json.loads(sys.argv[2]).items():
    folder = Path(sys.argv[1]) / name
    scripted_run.ScriptedEngine.skills = skills
    scripted_run.run_scripted(folder / "run", scripted_run.scripted_config(folder, **tables))
"""
GOOD, BAD = 1.0, 0.1
EVERY: dict[str, Any] = {"pairs": {"band": [0.0, 1.0]}}
ONE: dict[str, Any] = {"run": {"rounds": 1}}
NOTHING_TO_LEARN: dict[str, Any] = {"pairs": {"per_question": 0}, "fallback": {"questions": 0}}
PLAYS: dict[str, tuple[list[float], dict[str, Any]]] = {
    "worse": ([BAD, GOOD, BAD, GOOD], {"gate": {"learning_rate_factor": 0.5}, **EVERY}),
    "patience": (
        [BAD, GOOD, BAD],
        {"gate": {"learning_rate_factor": 0.5, "patience": 3}, "run": {"rounds": 9}, **EVERY},
    ),
    "always": ([BAD, GOOD, BAD], {"gate": {"rule": "always"}, **ONE}),
    "not_worse": ([BAD, GOOD, GOOD], {"gate": {"rule": "not_worse"}, **ONE}),
    "improve_not": ([BAD, GOOD, GOOD], {"gate": {"rule": "improve"}, **ONE}),
    "improve": ([BAD, BAD, GOOD], {"gate": {"rule": "improve"}, **ONE}),
    "best": ([BAD, GOOD, 0.8, 0.8], {"gate": {"level": 1e-6}, **EVERY}),
    "nothing": ([BAD, GOOD], {"gate": {"patience": 2}, "run": {"rounds": 9}, **NOTHING_TO_LEARN}),
}
"""Runs by name: how often base model, cold start and candidates are right, and what their recipe changes."""


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every run, finished. At the end of each the sampler served what its store says, or it would have failed."""
    folder = tmp_path_factory.mktemp("gate")
    run_python(RUN, folder, json.dumps(PLAYS))
    return folder


def store_of(played: Path, name: str) -> Store:
    return open_store(played / name / "run", read_only=True)


def column(store: Store, name: str) -> list[Any]:
    return [row[name] for row in store.rows(f"SELECT {name} FROM round WHERE number > 0 ORDER BY number")]


def learning_rates(store: Store) -> list[float]:
    rows = store.rows("SELECT recipe FROM training WHERE round > 0 ORDER BY round")
    return [json.loads(row["recipe"])["dpo"]["learning_rate"] for row in rows]


def test_a_worse_candidate_is_rolled_back_and_the_next_round_goes_on_from_the_one_before(played: Path) -> None:
    store = store_of(played, "worse")
    assert column(store, "decision") == ["rejected", "accepted"]
    assert column(store, "serving_policy") == [1, 1]
    assert store.value("SELECT DISTINCT policy FROM sample WHERE round = 2 AND author = 'policy'") == 1
    assert [row["parent"] for row in store.rows("SELECT parent FROM policy WHERE number > 1")] == [1, 1]
    assert learning_rates(store) == [1e-5, 5e-6]


def test_rejections_in_a_row_lower_the_rate_further_and_end_the_run_at_the_patience(played: Path) -> None:
    store = store_of(played, "patience")
    assert column(store, "decision") == ["rejected"] * 3
    assert learning_rates(store) == [1e-5, 5e-6, 2.5e-6]


@pytest.mark.parametrize(
    ("name", "decided"),
    [("always", "accepted"), ("not_worse", "accepted"), ("improve_not", "rejected"), ("improve", "accepted")],
)
def test_the_rule_decides_about_the_candidate(played: Path, name: str, decided: str) -> None:
    assert column(store_of(played, name), "decision") == [decided]


def test_a_candidate_is_compared_with_the_best_policy_so_far_not_with_the_one_before(played: Path) -> None:
    store = store_of(played, "best")
    assert column(store, "decision")[0] == "accepted"
    assert column(store, "serving_policy") == [1, 2]
    assert column(store, "compared_with") == [1, 1]


def test_rounds_without_anything_to_train_on_count_for_the_patience(played: Path) -> None:
    assert column(store_of(played, "nothing"), "decision") == ["no_update", "no_update"]
