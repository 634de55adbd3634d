"""A model in several files: one that is missing or foreign is named before anything loads."""

import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from policies import SettingError
from policies.encoding import check_model_directory
from policies.shards import INDEX
from tests.support.command_line import run_command

pytestmark = pytest.mark.heavy


@pytest.fixture(scope="module")
def sharded(text_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sharded") / "model"
    AutoModelForCausalLM.from_pretrained(text_model).save_pretrained(folder, max_shard_size="200KB")
    AutoTokenizer.from_pretrained(text_model).save_pretrained(folder)
    assert len(list(folder.glob("*.safetensors"))) > 2
    return folder


def damage(folder: Path, how: str) -> None:
    files = sorted(folder.glob("*.safetensors"))
    if how == "missing":
        files[1].unlink()
    elif how == "foreign":
        shutil.copy(files[0], folder / "model-00009-of-00009.safetensors")
    elif how == "of another model":
        tensors = load_file(files[1])
        tensors["model.strange.weight"] = tensors.pop(next(iter(tensors)))
        save_file(tensors, files[1], metadata={"format": "pt"})
    elif how == "cut":
        files[1].write_bytes(files[1].read_bytes()[:50])
    elif how == "without an index":
        (folder / INDEX).unlink()
    elif how == "index of something else":
        (folder / INDEX).write_text("[]")


@pytest.mark.parametrize(
    ("how", "message"),
    [
        (
            "missing",
            r"model-00002-of-\d+\.safetensors is missing, and .*index\.json names it; restore",
        ),
        ("foreign", r"model-00009-of-00009\.safetensors is no part of the model.*take it out"),
        ("of another model", r"model-00002-of-\d+\.safetensors is not the file that .* describes .*; restore it"),
        ("cut", r"model-00002-of-\d+\.safetensors is not whole .*; restore it"),
        ("without an index", r"has \d+ files of weights and no model\.safetensors\.index\.json; restore it"),
        ("index of something else", r"is no index of weights"),
    ],
)
def test_files_that_do_not_belong_together_are_named(sharded: Path, tmp_path: Path, how: str, message: str) -> None:
    folder = tmp_path / "model"
    shutil.copytree(sharded, folder)
    check_model_directory(folder)
    damage(folder, how)
    with pytest.raises(SettingError, match=message):
        check_model_directory(folder)


def test_a_missing_file_of_weights_ends_a_run_with_one_line(sharded: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(sharded, folder)
    damage(folder, "missing")
    recipe = tmp_path / "recipe.toml"
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"question": "1 + 1?", "answer": "2", "split": "train"}\n')
    recipe.write_text(f'[policy]\nmodel = "{folder}"\n[questions]\nsource = "jsonl"\npath = "{rows}"\n')
    options = ("--config", recipe, "--run-dir", tmp_path / "run", "--set", "teacher.enabled=false")
    done = run_command("run", *options, check=2)
    assert "policy.model: " in done.stderr
    assert "is missing" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
