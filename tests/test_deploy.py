"""The files that start a run on a cluster: they parse, ask for a token, and call the command line as it is."""

import itertools
import subprocess
from typing import Any

import pytest
import yaml

from loop.config.load import parse_config
from tests.support.command_line import PROJECT

DEPLOY = PROJECT / "deploy"
FILES = ("slurm.sh", "skypilot.yaml", "kuberay.yaml")


def test_the_slurm_script_is_valid_bash() -> None:
    subprocess.run(["bash", "-n", DEPLOY / "slurm.sh"], check=True)


def test_the_yaml_files_have_the_fields_that_their_tools_read() -> None:
    sky = yaml.safe_load((DEPLOY / "skypilot.yaml").read_text())
    assert {"num_nodes", "resources", "setup", "run", "envs"} <= sky.keys()
    job = yaml.safe_load((DEPLOY / "kuberay.yaml").read_text())
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    cluster = job["spec"]["rayClusterSpec"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    assert all(group["template"]["spec"]["containers"][0]["resources"]["limits"] for group in groups)


@pytest.mark.parametrize("name", FILES)
def test_each_asks_for_a_token_and_sets_keys_that_exist(name: str) -> None:
    text = (DEPLOY / name).read_text()
    assert "RAY_AUTH_MODE" in text
    assert "RAY_AUTH_TOKEN" in text
    tables: dict[str, Any] = {"policy": {"model": "m"}, "questions": {"source": "easy_vqa"}}
    config = parse_config(tables, "test").model_dump()
    words = text.replace('"', " ").split()
    keys = [word.partition("=")[0] for before, word in itertools.pairwise(words) if before == "--set"]
    assert len(keys) >= 2
    for key in keys:
        table, _, field = key.partition(".")
        assert field in config[table], key
