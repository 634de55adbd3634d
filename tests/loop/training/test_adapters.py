"""Adapters of an update: kept beside the merged weights, which are what is hashed and proved."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from loop.context import Context, Stage, Stages
from loop.phases.update import update
from loop.training.stages import dpo, sft
from policies.encoding import Prompt
from policies.learner.items import PairItem, SftItem
from policies.weights import weights_sha256
from store.rounds import get_policy, get_round
from tests.support.command_line import run_command
from tests.support.update_session import session

pytestmark = pytest.mark.heavy


def right(ctx: Context, _: Any) -> Sequence[SftItem]:
    return [SftItem(Prompt("What is there?"), tuple(ctx.encoder.completion_ids("red")))]


def pairs(ctx: Context, _: Any) -> Sequence[PairItem]:
    (item,) = right(ctx, _)
    return [PairItem(item.prompt, item.completion, tuple(ctx.encoder.completion_ids("blue")))]


RFT = Stage("rft", lambda config: config.rft, right, sft)
DPO = Stage("dpo", lambda config: config.update, pairs, dpo)
LORA = {"lora_rank": 2, "learning_rate": 1e-2}


@pytest.mark.parametrize(
    ("stages", "tables", "kept"),
    [
        ((DPO,), {"update": LORA}, ["adapter"]),
        ((RFT, DPO), {"update": LORA, "rft": {"learning_rate": 1e-3}}, ["adapter"]),
        ((RFT, DPO), {"update": LORA, "rft": LORA}, ["adapter/dpo", "adapter/rft"]),
        ((DPO,), {"update": {"learning_rate": 1e-3}}, []),
    ],
)
def test_a_policy_keeps_the_adapters_beside_the_merged_weights(
    text_model: Path, tmp_path: Path, stages: tuple[Stage, ...], tables: dict[str, Any], kept: list[str]
) -> None:
    with session(text_model, tmp_path, Stages((), stages), **tables) as ctx:
        update(ctx, get_round(ctx.store, 2))
        policy = get_policy(ctx.store, 3)
        directory = tmp_path / policy.path
        found = [path.parent.relative_to(directory) for path in directory.rglob("adapter_config.json")]
        assert sorted(map(str, found)) == kept
        assert policy.sha256 == weights_sha256(directory)
        assert sorted(path.name for path in directory.glob("*.safetensors")) == ["model.safetensors"]
        assert not (tmp_path / "training").exists()


def test_targets_that_match_nothing_end_a_run_before_anything_loads(text_model: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(f'[policy]\nmodel = "{text_model}"\n[questions]\nsource = "jsonl"\npath = "unused.jsonl"\n')
    options = [
        "--set",
        "teacher.enabled=false",
        "--set",
        "update.lora_rank=4",
        "--set",
        "update.lora_targets=['q_prj']",
    ]
    done = run_command("run", "--config", recipe, "--run-dir", tmp_path / "run", *options, check=2)
    assert "update.lora_targets: 'q_prj' matches no linear layer of this model" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
