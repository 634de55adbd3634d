"""Every recipe runs on the embedded default: real sampling, real training, two rounds."""

import json
from pathlib import Path
from typing import Any

import pytest

from loop.config.load import load_config
from loop.config.shipped import CONFIGS
from loop.controller import run
from loop.terminal.console import Console
from store import open_store

SMALL = [
    *("teacher.enabled=false", "fallback.questions=0"),
    *("questions.train_limit=400", "run.rounds=2", "sampling.questions=120", "sampling.samples=6"),
    "sampling.temperature=1.5",
    *("sampling.style=direct", "sampling.max_tokens=8", "evaluation.max_tokens=8", "evaluation.limit=30"),
    *("gate.limit=30", "gate.rule=always", "pairs.band=[0.0, 1.0]", "rft.direct_items=0", "rft.rationales=0"),
    *(
        "pairs.max_words=90",
        "update.batch_size=2",
        "rft.batch_size=4",
        "engine.max_num_seqs=32",
        "engine.kv_cache_gib=0.5",
    ),
]
ONLY_PAIRS = ["rft.per_question=0"]
OTHER_WAYS = {
    "margin": [*ONLY_PAIRS, "pairs.rule=margin"],
    "contrast": [*ONLY_PAIRS, "pairs.rule=contrast", "pairs.weighting=information", "pairs.replay_rounds=1"],
    "rft_then_dpo": ["rft.pick=random", "rft.per_question=2", "rft.learning_rate=1e-5"],
    "lora": [*ONLY_PAIRS, "update.lora_rank=4", "update.frozen=['vision_model']"],
    "cold_start_reference": [*ONLY_PAIRS, "update.reference=cold_start", "update.start=cold_start"],
    "ema_reference": [*ONLY_PAIRS, "update.reference=ema", "update.ema_steps=1"],
    "difficult": [*ONLY_PAIRS, "sampling.order=difficult", "sampling.temperature=[1.4, 1.6]"],
    "informative": [
        *ONLY_PAIRS,
        "sampling.order=informative",
        "pairs.weighting=advantage",
        "update.label_smoothing=0.1",
    ],
}
RECIPES = sorted(path.stem for path in (CONFIGS / "recipes").glob("*.toml"))
METHODS = {
    "rft": ["rft", "rft"],
    "ratchet": ["rft+dpo", "rft+dpo"],
    "grpo": ["grpo", "grpo"],
    "unifiedreward_think": ["rft", "grpo"],
}
"""What a recipe's two rounds train with, where it is not DPO alone."""
ONLY_DPO = ["dpo", "dpo"]
TAUGHT = ["cold_start.direct_items=256", "cold_start.format_items=0", "cold_start.learning_rate=1e-3"]
NO_UPDATE = ["run.rounds=1", "sampling.questions=1", *ONLY_PAIRS, "pairs.per_question=0"]
UNTAUGHT = ["cold_start.direct_items=0", "cold_start.format_items=0"]


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A policy that answers in the form asked for, right often and wrong often; every run below starts from it."""
    run_dir = tmp_path_factory.mktemp("taught") / "run"
    assert run(load_config("easy_vqa", [*SMALL, *TAUGHT, *NO_UPDATE]), run_dir, Console(quiet=True))
    return run_dir / "policies" / "current"


def run_two_rounds(run_dir: Path, model: Path, overrides: list[str], recipe: str | None) -> dict[str, list[Any]]:
    """Both rounds done; what they trained on and made."""
    config = load_config("easy_vqa", [*SMALL, *UNTAUGHT, f"policy.model={model}", *overrides], recipe)
    assert run(config, run_dir, Console(quiet=True))
    store = open_store(run_dir)
    found = {
        "phases": [row["phase"] for row in store.rows("SELECT phase FROM round ORDER BY number")],
        "methods": [row["method"] for row in store.rows("SELECT method FROM training ORDER BY round")],
        "metrics": [json.loads(row["metrics"]) for row in store.rows("SELECT metrics FROM training ORDER BY round")],
        "rules": [row["rule"] for row in store.rows("SELECT DISTINCT rule FROM pair WHERE rule <> 'counter'")],
        "weights": [row["sha256"] for row in store.rows("SELECT DISTINCT sha256 FROM policy ORDER BY number")],
        "temperatures": [
            row["temperature"]
            for row in store.rows("SELECT DISTINCT temperature FROM sample WHERE author = 'policy' ORDER BY round")
        ],
    }
    store.close()
    return found


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RECIPES)
def test_a_published_recipe_runs_two_rounds(recipe: str, taught: Path, tmp_path: Path) -> None:
    mixture = ["rft.direct_items=16"] if recipe in ("rft", "ratchet", "unifiedreward_think") else []
    found = run_two_rounds(tmp_path / "run", taught, mixture, recipe)
    assert found["phases"] == ["done"] * 3
    assert found["methods"] == METHODS.get(recipe, ONLY_DPO)
    assert len(found["weights"]) == 3
    config = load_config("easy_vqa", SMALL, recipe)
    assert found["rules"] == ([config.pairs.rule] if any("dpo" in each for each in found["methods"]) else [])


@pytest.mark.slow
@pytest.mark.parametrize("way", sorted(OTHER_WAYS))
def test_every_other_way_to_learn_runs_two_rounds(way: str, taught: Path, tmp_path: Path) -> None:
    found = run_two_rounds(tmp_path / "run", taught, OTHER_WAYS[way], None)
    assert found["phases"] == ["done"] * 3
    assert found["methods"] == ["rft+dpo" if way == "rft_then_dpo" else "dpo"] * 2
    assert len(found["weights"]) == 3
    if way == "difficult":
        assert found["temperatures"] == [1.4, 1.6]
