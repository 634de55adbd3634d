"""`benchmarks.judge`: each arm is a configuration that can run."""

from pathlib import Path

import pytest

from benchmarks.judge import ARMS, CONFIG, LONG, TAUGHT, cold_start_alone
from benchmarks.many_runs import Results, Run
from loop.config.load import load_config

MADE = Path(__file__).parents[1] / "benchmarks" / "results" / "judge.json"


@pytest.mark.parametrize("arm", ARMS)
def test_an_arm_changes_what_the_configuration_has(arm: str) -> None:
    changed = load_config(CONFIG, list(ARMS[arm])) != load_config(CONFIG, [])
    assert changed == bool(ARMS[arm])


@pytest.mark.parametrize(("arm", "asked"), [(LONG, 256), (TAUGHT, 2215)])
def test_a_cold_start_alone_takes_as_long_as_the_recipe(arm: str, asked: int) -> None:
    config = load_config(CONFIG, cold_start_alone(Results(MADE), Run(arm, "two_threads", 0)))
    shown = config.cold_start.rationales * config.cold_start.epochs
    beside = load_config(CONFIG, []).cold_start
    assert config.cold_start.rationales == asked
    assert 3 < shown / (beside.rationales * beside.epochs) < 6
