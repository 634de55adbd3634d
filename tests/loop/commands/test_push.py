"""Out again: policies and data to a hub over real HTTP, and GGUF through the converter that is there."""

import json
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.command_line import run_command
from tests.support.hub_server import Hub, hub_server


@pytest.fixture
def hub() -> Iterator[Hub]:
    with hub_server() as server:
        yield server


def push(hub: Hub, *arguments: object, check: int = 0, **more: str) -> Any:
    return run_command("push", *arguments, check=check, **{"HF_ENDPOINT": hub.url, "HF_TOKEN": hub.key, **more})


def test_a_policy_is_uploaded_with_its_files_in_one_commit(hub: Hub, scripted_run_dir: Path) -> None:
    said = json.loads(push(hub, scripted_run_dir, "me/policy", "--private", "--json").stdout)
    files = hub.files["models/me/policy"]
    weights = (scripted_run_dir / "policy" / "current").resolve()
    assert {"model.safetensors", "config.json", "README.md", "recipe.toml", "accuracy_log.jsonl"} <= files.keys()
    assert files["model.safetensors"] == (weights / "model.safetensors").read_bytes()
    assert files["README.md"].startswith(b"---\n")
    assert tomllib.loads(files["recipe.toml"].decode())["update"]["learning_rate"] == 1e-5
    assert [json.loads(line)["round"] for line in files["accuracy_log.jsonl"].splitlines()] == [0, 1, 2]
    assert hub.created[0]["visibility"] == "private"
    assert hub.commits == 1
    assert {file["path"] for file in said["files"]} == files.keys()
    assert str(scripted_run_dir.parent).encode() not in b"".join(files.values())


def test_a_dry_run_lists_the_files_and_asks_nobody(hub: Hub, scripted_run_dir: Path) -> None:
    said = push(hub, scripted_run_dir, "me/policy", "--dry-run", HF_TOKEN="")
    assert "model.safetensors" in said.stdout
    assert "nothing was uploaded" in said.stdout
    assert (hub.created, hub.files, hub.refused) == ([], {}, 0)


@pytest.mark.parametrize("what", ["pairs", "samples"])
def test_pairs_and_samples_are_a_data_set_that_loads_again(
    what: str, hub: Hub, scripted_run_dir: Path, tmp_path: Path
) -> None:
    import pyarrow.parquet as pq
    import yaml

    push(hub, scripted_run_dir, "me/data", "--dataset", what)
    files = hub.files["datasets/me/data"]
    assert files.keys() == {"README.md", f"{what}.parquet"}
    (tmp_path / "rows.parquet").write_bytes(files[f"{what}.parquet"])
    assert pq.read_table(tmp_path / "rows.parquet").num_rows > 0
    front = yaml.safe_load(files["README.md"].decode().split("---\n")[1])
    assert front["configs"][0]["data_files"][0]["path"] == f"{what}.parquet"


@pytest.mark.parametrize(
    ("arguments", "more", "code", "said"),
    [
        (("me/policy",), {"HF_TOKEN": ""}, 2, "HF_TOKEN is not set"),
        (("me/policy",), {"HF_TOKEN": "hf_wrong"}, 1, "the hub refuses me/policy (status 401): look at HF_TOKEN"),
        (("policy",), {}, 2, "name the repository as OWNER/NAME"),
        (("me/policy", "--policy", 0), {}, 2, "policy 0 is the base model"),
        (("me/policy", "--adapter"), {}, 2, "has no adapter"),
        (("me/policy", "--dataset", "pairs", "--policy", 1), {}, 2, "are for a policy"),
        (("me/policy",), {"HF_ENDPOINT": "http://127.0.0.1:9"}, 1, "cannot be uploaded"),
    ],
)
def test_a_refused_upload_is_one_line_and_commits_nothing(
    arguments: tuple[object, ...], more: dict[str, str], code: int, said: str, hub: Hub, scripted_run_dir: Path
) -> None:
    refused = push(hub, scripted_run_dir, *arguments, check=code, **more)
    assert said in refused.stderr
    assert "Traceback" not in refused.stderr
    assert "hf_wrong" not in refused.stderr
    assert hub.commits == 0


def test_an_export_has_a_card_beside_it_and_overwrites_no_other(scripted_run_dir: Path, tmp_path: Path) -> None:
    run_command("export", scripted_run_dir, "pairs", "-o", tmp_path / "pairs.jsonl", "--card")
    assert 'data_files="pairs.jsonl"' in (tmp_path / "README.md").read_text()
    (tmp_path / "README.md").write_text("mine")
    refused = run_command("export", scripted_run_dir, "pairs", "-o", tmp_path / "pairs.jsonl", "--card", check=2)
    assert "is no card of ours" in refused.stderr


CONVERTER = """
import pathlib, sys
if not (pathlib.Path(sys.argv[1]) / "config.json").exists():
    sys.exit("no model")
pathlib.Path(sys.argv[sys.argv.index("--outfile") + 1]).write_bytes(b"GGUF")
"""


def test_gguf_is_written_by_the_converter_that_is_there(scripted_run_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "convert_hf_to_gguf.py").write_text(CONVERTER)
    run_command("export", scripted_run_dir, "gguf", "-o", tmp_path / "policy.gguf", "--llama-cpp", tmp_path)
    assert (tmp_path / "policy.gguf").read_bytes() == b"GGUF"


def test_a_converter_that_fails_or_is_missing_is_named(scripted_run_dir: Path, tmp_path: Path) -> None:
    missing = run_command("export", scripted_run_dir, "gguf", "-o", tmp_path / "p.gguf", check=2)
    assert "convert_hf_to_gguf.py is not on the PATH: it comes with llama.cpp's sources" in missing.stderr
    (tmp_path / "convert_hf_to_gguf.py").write_text("raise SystemExit('Model Weights is not supported')")
    failed = run_command(
        "export", scripted_run_dir, "gguf", "-o", tmp_path / "p.gguf", "--llama-cpp", tmp_path, check=1
    )
    assert "Model Weights is not supported" in failed.stderr
    assert not list(tmp_path.glob("*.gguf"))
