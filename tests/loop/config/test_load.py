"""Configuration is loud: every mistake names its key and file before anything is loaded."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loop.config.load import differing_keys, load_config
from loop.config.schema import Config, RunConfig
from loop.config.shipped import CONFIGS
from loop.config.update import StagesConfig
from loop.errors import InputError
from tests.support.command_line import run_command

MINIMAL = '[policy]\nmodel = "m"\n[questions]\nsource = "easy_vqa"\n'


def write(folder: Path, text: str) -> str:
    path = folder / "recipe.toml"
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize("recipe", sorted(path.stem for path in CONFIGS.glob("*.toml")))
def test_every_shipped_recipe_loads(recipe: str) -> None:
    assert load_config(recipe, []).run.rounds >= 1


@pytest.mark.parametrize(
    ("text", "culprit"),
    [
        (MINIMAL + "[sampling]\nsamplez = 3\n", "sampling.samplez"),
        (MINIMAL + '[sampling]\nsamples = "3"\n', "sampling.samples"),
        (MINIMAL + "[sampling]\nsamples = 0\n", "sampling.samples"),
        (MINIMAL + "[pairs]\nband = [0.9, 0.1]\n", "band must be"),
        (MINIMAL + '[prompts]\ncot = "hm"\n', "must contain {question}"),
        ('[policy]\nmodel = "m"\n[questions]\nsource = "jsonl"\n', "needs path"),
        (MINIMAL + "[fallback]\nquestions = 3\n[teacher]\nenabled = false\n", "fallback.questions"),
        (MINIMAL + "[update]\nlosses = { sigmod = 1.0 }\n", "'sigmod' is unknown"),
        (MINIMAL + '[fallback]\nquestions = 3\n[sampling]\nstyle = "direct"\n', "sampling.style"),
        (MINIMAL + '[stages]\nrounds = ["rft", "sft"]\n', "stage 'sft' is unknown"),
        (MINIMAL + '[stages]\nrounds = ["rft", "grpo"]\n', "grpo.groups = 'none'"),
        (MINIMAL + '[stages]\nrounds = ["rft", "rft"]\nsamples = [1]\n', "samples needs one number per entry"),
        (MINIMAL + "[stages]\nquestions = [9]\n", "questions needs one number per entry of rounds (0), not 1"),
        (MINIMAL + '[stages]\nrounds = ["rft+dpo"]\n[pairs]\nper_question = 0\n', "makes no pairs"),
        (MINIMAL + '[pairs]\nrule = "judged"\n', "judge_run"),
        (MINIMAL + '[pairs]\njudge_run = "runs/judge"\n', "rule = 'judged'"),
        (MINIMAL + '[questions2]\nsource = "jsonl"\n', "questions2"),
        ('[questions]\nsource = "easy_vqa"\n', "policy: is required"),
        ("[policy\n", "not valid TOML"),
        (MINIMAL + f"[run]\nseed = {'[' * 20_000}", "not valid TOML"),
        (MINIMAL + f"[run]\nseed = {'9' * 5_000}\n", "not valid TOML"),
        (MINIMAL + f"[run]\nseed = {2**63}\n", "seed is a number of more than 64 bits"),
        (MINIMAL + "[update]\nlearning_rate = inf\n", "update.learning_rate"),
        (MINIMAL + "[update]\nlosses = { sigmoid = nan }\n", "update.losses.sigmoid"),
        ('[policy]\nmodel = "m"\n[questions]\nsource = "jsonl"\npath = "a\\u0000"\n', "questions.path"),
    ],
)
def test_a_mistake_names_key_and_file(tmp_path: Path, text: str, culprit: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(InputError) as caught:
        load_config(path, [])
    assert culprit in str(caught.value)
    assert path in str(caught.value)


def test_rounds_take_their_stages_by_turns() -> None:
    assert StagesConfig().of_round(3) is None
    turns = StagesConfig(rounds=["rft", "grpo", "rft+dpo"])
    assert [turns.of_round(number) for number in (1, 2, 3, 4)] == [("rft",), ("grpo",), ("rft", "dpo"), ("rft",)]


def test_rounds_ask_and_sample_by_their_turn(tmp_path: Path) -> None:
    turns = '[grpo]\ngroups = "mixed"\n[stages]\nrounds = ["rft", "grpo"]\n'
    both = load_config(write(tmp_path, MINIMAL + turns + "questions = [800, 50]\nsamples = [1, 8]\n"), [])
    asked = [(both.questions_of(number), both.samples_of(number)) for number in (1, 2, 3)]
    assert asked == [(800, 1), (50, 8), (800, 1)]
    other = load_config(write(tmp_path, MINIMAL + turns), ["sampling.samples=3"])
    assert [(other.questions_of(number), other.samples_of(number)) for number in (1, 2)] == [(1000, 3), (1000, 3)]


def test_unknown_configuration_lists_the_known_ones() -> None:
    with pytest.raises(InputError, match=r"no such configuration.*easy_vqa"):
        load_config("nosuch", [])


def test_overrides_are_typed_and_checked(tmp_path: Path) -> None:
    path = write(tmp_path, MINIMAL)
    config = load_config(path, ["run.rounds=7", "teacher.model=gpt-4o", "pairs.band=[0.25, 0.85]"])
    assert (config.run.rounds, config.teacher.model, config.pairs.band) == (7, "gpt-4o", [0.25, 0.85])
    for wrong in ("rounds=7", "run.rounds", "run.rounds=x", "run.roundz=7"):
        with pytest.raises(InputError):
            load_config(path, [wrong])


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["questions.judge=numerc"], "--set questions.judge: judge 'numerc' is unknown"),
        (["gate.level=0.7", "gate.rule=sequential"], "--set gate.level, --set gate.rule: level must be below 0.5"),
        (["run.rounds=3", "stages.rounds=['grpo']"], "--set stages.rounds: stages.rounds names 'grpo'"),
        (["foo.bar=1"], "--set foo.bar: unknown key"),
        (["teacher.foo=1"], "--set teacher.foo: unknown key"),
        (["update.losses={sigmoid='x'}"], "--set update.losses.sigmoid: Input should be a valid number"),
    ],
)
def test_an_override_at_fault_is_named(tmp_path: Path, overrides: list[str], said: str) -> None:
    path = write(tmp_path, MINIMAL)
    with pytest.raises(InputError) as caught:
        load_config(path, overrides)
    assert str(caught.value).startswith(said)
    assert path not in str(caught.value)


def test_a_fault_of_the_file_is_not_blamed_on_an_override(tmp_path: Path) -> None:
    path = write(tmp_path, MINIMAL + "[gate]\nrule = 'sequential'\nlevel = 0.7\n")
    with pytest.raises(InputError) as caught:
        load_config(path, ["gate.margin=0.02"])
    assert str(caught.value) == f"{path}: gate: level must be below 0.5 with rule = 'sequential'"


def test_only_schedule_and_machine_keys_may_change_later() -> None:
    one, other = load_config("easy_vqa", []), load_config("easy_vqa", ["run.rounds=9", "engine.max_num_seqs=7"])
    assert differing_keys(one.model_dump(), other.model_dump()) == []
    third = load_config("easy_vqa", ["update.beta=0.5"])
    assert [key.split()[0] for key in differing_keys(one.model_dump(), third.model_dump())] == ["update.beta"]


@pytest.mark.parametrize("recipe", ["easy_vqa", "llava_reasoner"])
def test_dry_run_prints_the_plan(recipe: str) -> None:
    # llava_reasoner wants a file of the user's own questions.
    done = run_command("run", "--config", recipe, "--dry-run", check=2 if recipe == "llava_reasoner" else 0)
    assert "[policy]" in done.stdout
    assert "# plan" in done.stdout
    unreadable = "questions.path = " in done.stdout.partition("before it can run")[2]
    assert unreadable == (recipe == "llava_reasoner"), "its questions are the user's"


def test_a_dry_runs_output_configures_the_same_run(tmp_path: Path) -> None:
    printed = run_command("run", "--config", "easy_vqa", "--dry-run", "--set", "run.seed=7").stdout
    (tmp_path / "printed.toml").write_text(printed)
    again = run_command("run", "--config", tmp_path / "printed.toml", "--dry-run").stdout
    # What the machine has free changes from moment to moment.
    one, other = ([line for line in text.splitlines() if "this machine:" not in line] for text in (printed, again))
    assert one == other


def test_a_wrong_override_is_named_with_a_suggestion() -> None:
    with pytest.raises(InputError, match=r"^--set sampling.tempreature: unknown key, did you mean temperature\?"):
        load_config("easy_vqa", ["sampling.tempreature=1"])


def test_every_configuration_key_is_documented() -> None:
    text = (CONFIGS.parent / "docs" / "configuration.md").read_text()
    for table, values in load_config("easy_vqa", []).model_dump(exclude={"recipe"}).items():
        for key in values:
            assert f"`{table}.{key}`" in text or f"`{key}`" in text, f"{table}.{key}"


def documented_defaults() -> Iterator[tuple[str, str, Any]]:
    """(table, key, default) of every row of the page whose defaults are values, and not words such as "all"."""
    for line in (CONFIGS.parent / "docs" / "configuration.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        keys = re.findall(r"`(\w+)\.(\w+)`", cells[0])
        try:
            values = tomllib.loads(f"values = [{cells[1]}]")["values"] if keys else []
        except (IndexError, tomllib.TOMLDecodeError):
            continue
        yield from ((table, key, value) for (table, key), value in zip(keys, values, strict=True))


def test_documented_defaults_are_those_of_the_schema() -> None:
    found = list(documented_defaults())
    assert len(found) > 80
    for table, key, value in found:
        fields: dict[str, Any] = Config.model_fields[table].annotation.model_fields  # type: ignore[union-attr]
        default = fields[key].get_default(call_default_factory=True)
        assert default in (value, None), f"{table}.{key}"


@pytest.mark.heavy
def test_the_installed_command_finds_its_recipes_and_its_model(tmp_path: Path) -> None:
    target = tmp_path / "site"
    source = tmp_path / "source"
    shutil.copytree(
        CONFIGS.parent,
        source,
        ignore=shutil.ignore_patterns(".venv*", ".git", "runs", "build", "site", "*.egg-info", ".*_cache"),
    )
    install = ["-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--target", str(target)]
    subprocess.run([sys.executable, *install, str(source)], check=True, capture_output=True)
    done = subprocess.run(
        [str(target / "bin" / "ratchet"), "run", "--config", "easy_vqa", "--dry-run", "--json"],
        check=True,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(target)},
    )
    model = Path(json.loads(done.stdout)["policy"]["model"])
    assert model.is_relative_to(target)
    assert (model / "model.safetensors").is_file()


def test_a_configuration_is_laid_over_its_recipe_key_by_key(tmp_path: Path) -> None:
    recipe, config = tmp_path / "recipe.toml", tmp_path / "config.toml"
    recipe.write_text("[sampling]\nsamples = 4\nquestions = 10\n[update]\nbeta = 0.3\nlosses = { ipo = 1.0 }\n")
    config.write_text(
        f'recipe = "{recipe}"\n[policy]\nmodel = "m"\n[questions]\nsource = "easy_vqa"\n[sampling]\nquestions = 20\n'
    )
    resolved = load_config(str(config), ["update.beta=0.5"])
    assert (resolved.sampling.samples, resolved.sampling.questions) == (4, 20)
    assert (resolved.update.beta, resolved.update.losses) == (0.5, {"ipo": 1.0})
    assert resolved.recipe == str(recipe)
    assert load_config(str(config), [], "irpo").sampling.samples == 30
    with pytest.raises(InputError, match=r"--recipe none: no such recipe or file; known: .*irpo"):
        load_config(str(config), [], "none")


@pytest.mark.parametrize("name", sorted(path.stem for path in (CONFIGS / "recipes").glob("*.toml")))
def test_every_recipe_fits_the_embedded_default(name: str) -> None:
    assert load_config("easy_vqa", [], name).recipe == name


PUBLISHED: dict[str, dict[str, object]] = {
    "llava_reasoner": {
        "sampling.samples": 32,
        "sampling.temperature": [1.0, 1.2],
        "pairs.rule": "random",
        "pairs.per_question": 3,
        "pairs.band": [0.25, 0.85],
        "pairs.max_words": 90,
        "update.beta": 0.1,
        "update.learning_rate": 5e-7,
        "update.epochs": 1.0,
    },
    "irpo": {
        "sampling.samples": 30,
        "sampling.temperature": [0.8, 0.8, 1.3],
        "pairs.per_question": 10,
        "update.losses": {"sigmoid": 1.0, "sft": 1.0},
        "update.beta": 0.1,
        "update.learning_rate": 7e-7,
        "update.reference": "start",
    },
    "online_dpo_r1": {
        "sampling.samples": 8,
        "sampling.temperature": 1.0,
        "pairs.rule": "best_worst",
        "update.beta": 0.1,
        "update.learning_rate": 5e-7,
        "update.epochs": 2.0,
        "update.reference": "start",
    },
    "scpo": {
        "pairs.rule": "vote",
        "update.losses": {"sigmoid": 1.0, "sft": 1.0},
        "update.beta": 0.5,
        "update.learning_rate": 5e-6,
    },
    "mpo": {"update.losses": {"sigmoid": 0.8, "bco_pair": 0.2, "sft": 1.0}},
    "conciser": {"pairs.rule": "shortest_right"},
    "rft": {"pairs.per_question": 0, "rft.per_question": 10, "rft.rationales": 1024, "rft.direct_items": 1024},
}
"""Settings as the papers give them (arXiv 2410.16198, 2404.19733, the Online-DPO-R1 report, 2411.04109, 2411.10442,
2505.17250, 2308.01825); what a paper does not say is not here."""


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_a_published_recipe_has_the_published_settings(name: str) -> None:
    settings = load_config("easy_vqa", [], recipe=name).model_dump()
    found = {key: settings[key.partition(".")[0]][key.partition(".")[2]] for key in PUBLISHED[name]}
    assert found == PUBLISHED[name]


def test_a_missing_or_unknown_optimizer_is_one_line_early(tmp_path: Path) -> None:
    lacking = ["--set", "learner.optimizer=adamw_torch_8bit"]
    line = "learner.optimizer = 'adamw_torch_8bit' needs the package torchao, which is not installed"
    dry_run = run_command("run", "--config", "easy_vqa", "--dry-run", *lacking, check=2)
    assert f"before it can run: {line}" in dry_run.stdout
    assert f"error: before it can run: {line}" in dry_run.stderr
    run = run_command("run", "--config", "easy_vqa", "--run-dir", tmp_path / "run", *lacking, check=2)
    assert line in run.stderr
    assert "starting vLLM" not in run.stdout
    with pytest.raises(InputError, match=r"--set learner.optimizer: optimizer: 'adamm' is unknown; known: ada"):
        load_config("easy_vqa", ["learner.optimizer=adamm"])
    with pytest.raises(InputError, match=r"dtype = 'bfloat16' needs optimizer = 'adamw_torch', which rounds"):
        load_config("easy_vqa", ["learner.dtype=bfloat16", "learner.optimizer=sgd"])


@pytest.mark.parametrize(
    "override", [f"run.seed={'[' * 20_000}", f"run.seed={'9' * 5_000}", "questions.path=~no_such_user/x"]
)
def test_an_override_that_cannot_be_read_is_refused_by_its_key(override: str) -> None:
    with pytest.raises(InputError, match=f"--set {override.partition('=')[0]}"):
        load_config("easy_vqa", [override])


@given(st.integers(-(2**63), 2**63 - 1), st.integers(0, 10_000))
def test_every_seed_of_a_run_becomes_one_that_libraries_take(seed: int, number: int) -> None:
    found = RunConfig(seed=seed).library_seed(number)
    numpy.random.RandomState(found)  # what transformers and vLLM seed
    assert seed < 0 or seed + number >= 2**32 or found == seed + number
