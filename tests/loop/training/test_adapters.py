"""Adapters of an update: kept beside the merged weights, which are what is hashed and proved."""

import json
import math
import shutil
import signal
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from loop.config.load import parse_config
from loop.context import Context, Stage, Stages
from loop.errors import InputError
from loop.phases.update import update
from loop.retention import kept_policies
from loop.training.check_learner import check_learner
from loop.training.stages import dpo, sft
from policies.encoding import Prompt
from policies.learner.items import PairItem, SftItem
from policies.weights import weights_sha256
from store import open_store
from store.rounds import get_policy, get_round, latest_round, record_decision, start_round
from store.sessions import stored_configuration
from tests.support.command_line import run_command
from tests.support.forked import run_forked
from tests.support.killed_update import EVERY_STEP, Mortal
from tests.support.real_runs import SMALL_EASY_VQA, write_recipe
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


def test_unmatched_lora_targets_end_a_run_before_loading(text_model: Path, tmp_path: Path) -> None:
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


GOES_ON = {**LORA, "lora_continue": True, "batch_size": 1, "epochs": 4.0}


def accept(ctx: Context, number: int) -> None:
    """Serve the round's candidate from the next round on."""
    serving = get_round(ctx.store, number).candidate_policy
    assert serving is not None
    record_decision(ctx.store, number, "accepted", "", best=serving)
    start_round(ctx.store, number + 1, "update", serving, [])


def two_updates(model: str, run_dir: str, steps: int | None = None) -> None:
    """Two rounds that train one adapter on; the process may be killed after `steps` steps of the second one."""
    Path(run_dir).mkdir(exist_ok=True)
    tables = {"update": GOES_ON, "learner": EVERY_STEP}
    with session(Path(model), Path(run_dir), Stages((), (DPO,)), Mortal, **tables) as ctx:
        latest = latest_round(ctx.store)
        assert latest is not None
        if latest.number == 2:
            update(ctx, get_round(ctx.store, 2))
            accept(ctx, 2)
        assert isinstance(ctx.learner, Mortal)
        ctx.learner.steps = steps
        update(ctx, get_round(ctx.store, 3))
        print(*ctx.reporter.lines, sep="\n")  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def twice_updated(text_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run_dir = tmp_path_factory.mktemp("adapters") / "run"
    said = run_forked(two_updates, str(text_model), str(run_dir)).stdout
    assert said.count("goes on with the adapter of policy 3, for the weights of policy 2") == 1
    return run_dir


def test_an_adapter_that_goes_on_stays_one_for_the_first_weights(text_model: Path, twice_updated: Path) -> None:
    directory = twice_updated / "policies" / "0004"
    assert json.loads((directory / "adapter" / "base_policy.json").read_text())["policy"] == 2
    first, second = (load_file(twice_updated / f"policies/000{n}/adapter/adapter_model.safetensors") for n in (3, 4))
    assert {name: tensor.shape for name, tensor in first.items()} == {n: t.shape for n, t in second.items()}
    assert any(not first[name].equal(second[name]) for name in first)
    base = AutoModelForCausalLM.from_pretrained(text_model)  # the weights of policy 2
    merged = PeftModel.from_pretrained(base, directory / "adapter").merge_and_unload().state_dict()
    published = load_file(directory / "model.safetensors")
    assert all(merged[name].allclose(published[name], atol=1e-6) for name in published)
    assert not list((directory / "adapter").glob("ref"))


def test_its_reference_is_the_policy_that_the_round_began_with(twice_updated: Path) -> None:
    with closing(open_store(twice_updated, read_only=True)) as store:
        losses = store.rows("SELECT loss FROM training_step WHERE step = 1")
    assert [row["loss"] for row in losses] == [pytest.approx(math.log(2), abs=1e-6)] * 2


def test_the_weights_under_a_kept_adapter_are_kept(twice_updated: Path) -> None:
    with closing(open_store(twice_updated)) as store:
        record_decision(store, 3, "accepted", "", best=4)
        start_round(store, 4, "update", 4, [])
        config = parse_config(stored_configuration(store) or {}, "run")
        assert kept_policies(store, config) >= {2, 4}
        shutil.rmtree(twice_updated / "policies" / "0004" / "adapter")
        shutil.rmtree(twice_updated / "policies" / "0003" / "adapter")
        assert 2 not in kept_policies(store, config)


def test_a_killed_update_of_a_continued_adapter_ends_the_same(
    text_model: Path, twice_updated: Path, tmp_path: Path
) -> None:
    run_dir = tmp_path / "run"
    for steps in (1, 1):
        done = run_forked(two_updates, str(text_model), str(run_dir), steps, check=None)
        assert done.returncode == -signal.SIGKILL
    said = run_forked(two_updates, str(text_model), str(run_dir)).stdout
    assert "  dpo: goes on after step " in said
    assert weights_sha256(run_dir / "policies" / "0004") == weights_sha256(twice_updated / "policies" / "0004")


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"rft": {"per_question": 1}}, r"update\.lora_continue = true needs update to be the only stage.*\[rft\]"),
        ({"update": {"lora_rank": 0, "lora_continue": True}}, "which lora_rank > 0 makes"),
        ({"update": {**GOES_ON, "lora_init": "pissa"}}, "take lora_init = 'default'"),
        ({"update": {**GOES_ON, "start": "cold_start"}}, "do not go together"),
        ({"learner": {"workers": 2}}, r"needs learner\.workers = 1"),
        ({"cold_start": GOES_ON}, "the cold start trains once"),
    ],
)
def test_an_adapter_that_cannot_continue_is_refused_early(tables: dict[str, Any], message: str) -> None:
    given = {
        "policy": {"model": "nowhere"},
        "questions": {"source": "jsonl", "path": "unused.jsonl"},
        "teacher": {"enabled": False},
        "update": GOES_ON,
        **tables,
    }
    with pytest.raises(InputError, match=message):
        check_learner(parse_config(given, "here"))


def test_a_run_whose_adapter_goes_on_is_served_and_proved(tmp_path: Path) -> None:
    recipe, run_dir = write_recipe(tmp_path, SMALL_EASY_VQA), tmp_path / "run"
    keys = {
        "run.rounds": 2,
        "gate.rule": '"always"',
        "sampling.questions": 60,
        "evaluation.limit": 40,
        "update.lora_rank": 4,
        "update.lora_continue": "true",
        "update.learning_rate": 1e-3,
    }
    options = [part for key, value in keys.items() for part in ("--set", f"{key}={value}")]
    done = run_command("run", "--config", recipe, "--run-dir", run_dir, *options)
    assert "dpo: goes on with the adapter of policy 2, for the weights of policy 1" in done.stdout + done.stderr
    with closing(open_store(run_dir, read_only=True)) as store:
        served = store.rows(
            "SELECT policy, max(probe_difference) AS probe_difference FROM swap WHERE policy >= 2 GROUP BY policy"
        )
    assert [row["policy"] for row in served] == [2, 3]
    assert all(row["probe_difference"] < 1e-4 for row in served)
    assert json.loads((run_dir / "policies/0003/adapter/base_policy.json").read_text())["policy"] == 1
