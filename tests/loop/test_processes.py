"""Who samples and who learns, decided from the configuration before anything heavy starts."""

from pathlib import Path
from typing import Any

import pytest

from loop.config.load import parse_config
from loop.config.schema import Config
from loop.errors import InputError
from loop.processes import sampler_starter
from policies.vllm_engine import VllmEngine
from store import open_store


def config(**tables: dict[str, Any]) -> Config:
    questions = {"source": "jsonl", "path": "q.jsonl"}
    return parse_config({"policy": {"model": "m"}, "questions": questions, "teacher": {"enabled": False}, **tables}, "")


def starter(tmp_path: Path, **tables: dict[str, Any]) -> Any:
    store = open_store(tmp_path, create=True)
    try:
        return sampler_starter(config(**tables), store, print)
    finally:
        store.close()


def test_one_engine_is_part_of_this_process(tmp_path: Path) -> None:
    assert starter(tmp_path) is VllmEngine


def test_several_engines_are_behind_ray(tmp_path: Path) -> None:
    assert starter(tmp_path, engine={"replicas": "auto", "tensor_parallel_size": 1}) is not None


def test_more_engines_than_the_machine_has_room_for_name_the_key(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"engine\.replicas = 4000: this machine has room for \d+; lower it"):
        starter(tmp_path, engine={"replicas": 4000})


def test_a_cluster_that_does_not_answer_is_named_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cluster\.address = '127\.0\.0\.1:1': nothing answers there"):
        starter(tmp_path, cluster={"address": "127.0.0.1:1"})
