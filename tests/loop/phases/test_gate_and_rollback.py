"""The gate in whole runs of scripted weights: what it decides, and what the run does about it."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from loop.errors import InputError, LoopError
from loop.pages.browse import default_sides, sides
from loop.reading.accuracy_log import log_rows
from loop.terminal.log_table import round_sentence
from store import Store, open_store
from store.gate import best_policy, gate_trials
from tests.support.command_line import run_command
from tests.support.forked import run_forked
from tests.support.scripted_run import Script, requests_paid, run_scripted, scripted_config

GOOD, BAD = 1.0, 0.1
EVERY: dict[str, Any] = {"pairs": {"band": [0.0, 1.0]}}
ONE: dict[str, Any] = {"run": {"rounds": 1}}
NOTHING_TO_LEARN: dict[str, Any] = {"pairs": {"per_question": 0}, "fallback": {"questions": 0}}
SEQUENTIAL: dict[str, Any] = {"rule": "sequential", "first_look": 8}
SHRINKING: dict[str, Any] = {**SEQUENTIAL, "shrink": [0.5, 0.25]}
PLAYS: dict[str, tuple[Any, ...]] = {
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
    "diverged": ([BAD, GOOD], {"update": {"learning_rate": 4.0}, "gate": {"learning_rate_factor": 0.1}, **EVERY}),
    "guarded": ([BAD, GOOD], {"gate": {"guard": ["direct"]}, **EVERY}, BAD, GOOD, BAD, GOOD),
    "not_guarded": ([BAD, GOOD], {**ONE, **EVERY}, BAD, GOOD, BAD),
    "guarded_always": ([BAD, GOOD], {"gate": {"guard": ["direct"], "rule": "always"}, **ONE, **EVERY}, BAD, GOOD, BAD),
    "guarded_twice": ([BAD, GOOD], {"gate": {"guard": ["direct", "cot", "direct"]}, **ONE, **EVERY}, BAD, GOOD),
    "drifting": ([BAD, 0.5, GOOD], {"gate": {"guard": ["direct"]}, **EVERY}, BAD, GOOD, 0.8, 0.2),
    "shrunk": ([BAD, 0.5, BAD, BAD, GOOD], {"gate": SHRINKING, **ONE, **EVERY}),
    "shrunk_in_vain": ([BAD, GOOD, BAD, BAD, BAD, GOOD], {"gate": SHRINKING, **EVERY}),
    "paid_for": ([BAD, 0.3, GOOD], {"gate": {**SEQUENTIAL, "guard": ["direct"]}, **ONE, **EVERY}, BAD, 0.9, 0.8),
    "not_paid_for": ([BAD, 0.3, GOOD], {"gate": {**SEQUENTIAL, "guard": ["direct"]}, **ONE, **EVERY}, BAD, GOOD, BAD),
    "not_the_best": ([BAD, GOOD, 0.9], {"gate": {"rule": "always"}, **ONE, **EVERY}),
    "nothing": ([BAD, GOOD], {"gate": {"patience": 2}, "run": {"rounds": 9}, **NOTHING_TO_LEARN}),
}
"""Runs by name: how often base model, cold start and candidates are right, what their recipe changes, and how often
they are right without a chain where that differs."""


def play(folder: Path) -> None:
    """Every run, one after the other."""
    for name, (skills, tables, *direct_skills) in PLAYS.items():
        script = Script(skills, direct_skills, held_out=40)
        run_scripted(folder / name / "run", scripted_config(folder / name, **tables), script=script)


def try_to_run(folder: Path, **tables: dict[str, Any]) -> None:
    """Run, or print why it stopped."""
    try:
        run_scripted(folder / "run", scripted_config(folder, **tables))
    except (InputError, LoopError) as error:
        print(error)


def diverge_and_mend(folder: Path) -> None:
    """A cold start that diverges, run again with other settings; prints after each how many requests were paid."""
    for cold_start in (
        {"learning_rate": 4.0},
        {"learning_rate": 4.0, "rationales": 5},
        {"learning_rate": 1e-5},
        {"learning_rate": 1e-6},
    ):
        try_to_run(folder, run={"rounds": 1}, cold_start=cold_start, fallback={"questions": 0})
        print(requests_paid(folder / "run"))


def diverge_until_gentler(folder: Path) -> None:
    """Rounds that diverge where a rejection changes nothing, and then where it makes the next one gentler."""
    for factor in (1.0, 0.1):
        try_to_run(folder, update={"learning_rate": 4.0}, gate={"learning_rate_factor": factor})


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every run, finished. At the end of each the sampler served what its store says, or it would have failed."""
    folder = tmp_path_factory.mktemp("gate")
    run_forked(play, folder)
    return folder


def store_of(played: Path, name: str) -> Store:
    return open_store(played / name / "run", read_only=True)


def column(store: Store, name: str) -> list[Any]:
    return [row[name] for row in store.rows(f"SELECT {name} FROM round WHERE number > 0 ORDER BY number")]


def learning_rates(store: Store) -> list[float]:
    rows = store.rows("SELECT recipe FROM training WHERE round > 0 ORDER BY round")
    return [json.loads(row["recipe"])["dpo"]["learning_rate"] for row in rows]


def test_a_worse_candidate_is_rolled_back(played: Path) -> None:
    store = store_of(played, "worse")
    assert column(store, "decision") == ["rejected", "accepted"]
    assert column(store, "serving_policy") == [1, 1]
    assert store.value("SELECT DISTINCT policy FROM sample WHERE round = 2 AND author = 'policy'") == 1
    assert [row["parent"] for row in store.rows("SELECT parent FROM policy WHERE number > 1")] == [1, 1]
    assert learning_rates(store) == [1e-5, 5e-6]


def test_rejections_lower_the_rate_and_patience_ends_the_run(played: Path) -> None:
    store = store_of(played, "patience")
    assert column(store, "decision") == ["rejected"] * 3
    assert learning_rates(store) == [1e-5, 5e-6, 2.5e-6]


@pytest.mark.parametrize(
    ("name", "decided"),
    [("always", "accepted"), ("not_worse", "accepted"), ("improve_not", "rejected"), ("improve", "accepted")],
)
def test_the_rule_decides_about_the_candidate(played: Path, name: str, decided: str) -> None:
    assert column(store_of(played, name), "decision") == [decided]


def test_a_candidate_is_compared_with_the_best_policy_so_far(played: Path) -> None:
    store = store_of(played, "best")
    assert column(store, "decision")[0] == "accepted"
    assert column(store, "serving_policy") == [1, 2]
    assert column(store, "compared_with") == [1, 1]


def test_a_style_that_is_guarded_must_not_become_worse_either(played: Path) -> None:
    store = store_of(played, "guarded")
    assert column(store, "decision") == ["rejected", "accepted"]
    assert re.search(r"lost \d, p = \S+; direct against policy 1: gained \d, lost \d\d", column(store, "reason")[0])
    assert column(store, "compared_with") == [1, 1]
    assert column(store_of(played, "not_guarded"), "decision") == ["accepted"]
    assert column(store_of(played, "guarded_always"), "decision") == ["accepted"]


def test_small_losses_of_a_guarded_style_do_not_add_up(played: Path) -> None:
    store = store_of(played, "drifting")
    assert column(store, "decision") == ["accepted", "rejected"]
    assert "direct against policy 1: " in column(store, "reason")[1]
    assert column(store, "compared_with") == [1, 2]


def test_a_style_named_twice_or_trained_anyway_is_asked_once(played: Path) -> None:
    store = store_of(played, "guarded_twice")
    assert column(store, "decision") == ["accepted"]
    assert (
        store.value("SELECT max(n) FROM (SELECT count(*) AS n FROM evaluation GROUP BY policy, style, question)") == 1
    )


def test_a_diverged_training_rejects_and_lowers_the_rate(
    played: Path,
) -> None:
    store = store_of(played, "diverged")
    assert column(store, "decision") == ["rejected", "accepted"]
    assert column(store, "reason")[0] == "training diverged: the loss is nan at step 1 of 1 (4)"
    assert column(store, "candidate_policy") == [None, 2]
    assert "training diverged" in round_sentence(log_rows(store)[1])
    assert learning_rates(store) == [0.4]
    assert [row["policy"] for row in log_rows(store)] == [1, None, 2]
    assert [side.policy for side in default_sides(sides(store))] == [1, 2]


def test_without_a_lower_rate_a_diverged_training_stops_the_run(
    tmp_path: Path,
) -> None:
    (said,) = run_forked(diverge_until_gentler, tmp_path).stdout.splitlines()
    assert said.endswith("run again with gate.learning_rate_factor below 1, for example 0.5")
    store = open_store(tmp_path / "run", read_only=True)
    assert column(store, "decision") == ["rejected", "accepted"]


def test_a_diverged_cold_start_is_trained_again_at_another_rate(tmp_path: Path) -> None:
    diverged, paid, more, _, paid_again, too_late, _ = run_forked(diverge_and_mend, tmp_path).stdout.splitlines()
    assert diverged.startswith("training diverged: the loss is nan")
    assert "lower cold_start.learning_rate and run again" in diverged
    assert "another configuration: cold_start.rationales (4 in the run, 5 now)" in more
    assert "another configuration: cold_start.learning_rate (1e-05 in the run, 1e-06 now)" in too_late
    assert paid == paid_again == "4"
    store = open_store(tmp_path / "run", read_only=True)
    assert store.value("SELECT configuration ->> '$.cold_start.learning_rate' FROM run") == 1e-5
    assert [row["policy"] for row in log_rows(store)] == [1, 2]


def test_rounds_without_training_items_count_for_patience(played: Path) -> None:
    assert column(store_of(played, "nothing"), "decision") == ["no_update", "no_update"]


def test_the_first_accepted_shrunk_candidate_is_kept(played: Path) -> None:
    store = store_of(played, "shrunk")
    assert column(store, "decision") == ["accepted"]
    assert column(store, "candidate_policy") == column(store, "best_policy") == [4]
    policies = store.rows("SELECT parent, other_parent, alpha, made_by FROM policy WHERE number > 2 ORDER BY number")
    assert [tuple(row) for row in policies] == [(1, 2, 0.5, "shrunk"), (1, 2, 0.25, "shrunk")]
    trials = gate_trials(store, 1)
    assert [(trial.policy, trial.accepted) for trial in trials] == [(2, False), (3, False), (4, True)]
    assert store.value("SELECT candidate FROM training WHERE round = 1") == 2
    reported = store.rows("SELECT DISTINCT policy FROM evaluation WHERE split = 'test' AND policy > 1 ORDER BY 1")
    assert {2, 4} <= {row["policy"] for row in reported}


@pytest.mark.parametrize("name", ["shrunk", "shrunk_in_vain"])
def test_a_run_that_shrank_has_no_faults(played: Path, name: str) -> None:
    assert json.loads(run_command("check", played / name / "run", "--json").stdout) == {"faults": []}


def test_a_round_without_accepted_shrunk_candidate_is_rejected(played: Path) -> None:
    store = store_of(played, "shrunk_in_vain")
    assert column(store, "decision") == ["rejected", "accepted"]
    assert column(store, "serving_policy") == [1, 1]
    assert column(store, "candidate_policy") == [2, 5]


def test_a_guarded_style_may_lose_what_the_trained_one_pays_for(played: Path) -> None:
    assert column(store_of(played, "paid_for"), "decision") == ["accepted"]


def test_no_gain_outweighs_a_guarded_style_below_the_cold_start(played: Path) -> None:
    store = store_of(played, "not_paid_for")
    assert column(store, "decision") == ["rejected"]
    assert "direct worse than after the cold start" in column(store, "reason")[0]


def test_the_best_is_served_and_rounds_start_from_the_last(played: Path) -> None:
    store = store_of(played, "not_the_best")
    assert column(store, "decision") == ["accepted"]
    assert column(store, "candidate_policy") == [2]
    assert best_policy(store) == 1
    assert (played / "not_the_best" / "run" / "policies" / "current").resolve().name == "0001"
