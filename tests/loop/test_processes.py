"""Places of sampling and learning, decided from the configuration before anything heavy starts."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from loop.config.load import parse_config
from loop.config.schema import Config
from loop.errors import InputError
from loop.processes import sampler_starter
from policies.vllm_engine import VllmEngine
from store import open_store

CORES = len(os.sched_getaffinity(0))


def config(**tables: dict[str, Any]) -> Config:
    questions = {"source": "jsonl", "path": "q.jsonl"}
    return parse_config({"policy": {"model": "m"}, "questions": questions, "teacher": {"enabled": False}, **tables}, "")


def starter(
    tmp_path: Path, said: list[str], with_room: Callable[[int], int] = lambda most: most, **tables: dict[str, Any]
) -> Any:
    store = open_store(tmp_path, create=True)
    try:
        return sampler_starter(config(**tables), store, said.append, with_room)
    finally:
        store.close()


def test_one_engine_is_part_of_this_process(tmp_path: Path) -> None:
    assert starter(tmp_path, []) is VllmEngine


def test_several_engines_are_behind_ray(tmp_path: Path) -> None:
    assert starter(tmp_path, [], engine={"replicas": CORES}) is not VllmEngine


AUTO: dict[str, Any] = {"engine": {"replicas": "auto"}}
several_cores = pytest.mark.skipif(CORES == 1 or torch.cuda.is_available(), reason="about several cores, no GPU")


@several_cores
def test_auto_is_one_engine_per_core_and_said(tmp_path: Path) -> None:
    said: list[str] = []
    assert starter(tmp_path, said, **AUTO) is not VllmEngine
    assert said == [f"{CORES} engines (engine.replicas = 'auto')"]


@several_cores
def test_auto_is_one_engine_in_process_if_memory_allows_one(tmp_path: Path) -> None:
    said: list[str] = []
    assert starter(tmp_path, said, lambda most: 1, **AUTO) is VllmEngine
    assert said == [f"1 engine (engine.replicas = 'auto'); memory has no room for {CORES}"]


@several_cores
def test_auto_without_ray_is_one_engine_in_this_process_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)  # as if it were not installed
    said: list[str] = []
    assert starter(tmp_path, said, **AUTO) is VllmEngine
    assert "Ray is not installed; install the extra 'cluster'" in said[0]
    with pytest.raises(InputError, match=r"engine\.replicas = 2 needs Ray"):
        starter(tmp_path, said, engine={"replicas": 2})


def test_more_engines_than_the_machine_has_room_for_name_the_key(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"engine\.replicas = 4000: this machine has room for \d+; lower it"):
        starter(tmp_path, [], engine={"replicas": 4000})


def test_a_cluster_without_answer_is_named_before_the_start(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cluster\.address = '127\.0\.0\.1:1': nothing answers there"):
        starter(tmp_path, [], cluster={"address": "127.0.0.1:1"})
