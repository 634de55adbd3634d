"""A directory on its way to another node: whole, once, and never as a whole in Ray's object store."""

import hashlib
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ray")

import ray
from ray._private.internal_api import memory_summary
from ray.cluster_utils import Cluster

from policies.ray_engines.transfer import PIECE, SentDirectory, at_hand, delete_fetched, send
from tests.support.command_line import PROJECT

pytestmark = pytest.mark.heavy

MIB = 1 << 20

KEPT = 64
"""MiB that stay in the object store."""


@pytest.fixture
def other_node(tmp_path: Path) -> Iterator[dict[str, Any]]:
    """Two nodes on this machine; the options of what is to run on the second one."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    cluster.add_node(num_cpus=1, resources={"other": 1})
    cluster.wait_for_nodes()
    # As `policies/ray_engines/cluster.py` does: Ray's workers find the project whatever this process's folder is.
    path = {"PYTHONPATH": str(PROJECT)}
    ray.init(cluster.address, log_to_driver=False, runtime_env={"env_vars": path})
    environment = path | {"TMPDIR": str(tmp_path / "other")}
    yield {"resources": {"other": 1}, "runtime_env": {"env_vars": environment}}
    ray.shutdown()
    cluster.shutdown()  # type: ignore[no-untyped-call]


def hashes(directory: Path) -> dict[str, str]:
    found = {}
    for file in directory.iterdir():
        with file.open("rb") as stream:
            found[file.name] = hashlib.file_digest(stream, "sha256").hexdigest()
    return found


def fetch(held: list[SentDirectory]) -> tuple[str, dict[str, str]]:
    with at_hand(held[0]) as directory:
        result = str(directory), hashes(directory)
    delete_fetched()
    return result


def weights(folder: Path) -> Path:
    """Twenty pieces in a file, one and a half in another, and none in a third."""
    folder.mkdir()
    for name, size in (("model-1.safetensors", 20 * PIECE), ("model-2.safetensors", PIECE * 3 // 2), ("empty", 0)):
        with (folder / name).open("wb") as stream:
            for number in range(0, size, MIB):
                stream.write(bytes([number // MIB % 251]) * min(MIB, size - number))
    return folder


def stored() -> int:
    """MiB in the object stores of both nodes."""
    found = re.search(r"Plasma memory usage (\d+) MiB", memory_summary(stats_only=True))  # type: ignore[no-untyped-call]
    return int(found.group(1)) if found else 0


def test_streamed_weights_are_never_whole_in_the_object_store(other_node: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    directory = weights(tmp_path / "0001")
    sent = send(directory)
    kept = ray.put(bytes(KEPT * MIB))  # so that it is seen whether the figure is of use, however short the transfer
    deadline = time.monotonic() + 60
    while stored() < KEPT and time.monotonic() < deadline:
        time.sleep(0.1)
    used, ended = [0], threading.Event()

    def watch() -> None:
        while not ended.wait(0.02):
            used.append(stored())

    watching = threading.Thread(target=watch)
    watching.start()
    # In a list, as the learner's work holds it: its hand-out goes on while any process may still ask for it.
    begun = time.monotonic()
    where, found = ray.get(ray.remote(fetch).options(**other_node).remote([sent]))
    seconds = time.monotonic() - begun
    ended.set()
    watching.join()
    del kept
    assert where.startswith(str(tmp_path / "other"))
    assert found == hashes(directory)
    size = sum(file.stat().st_size for file in directory.iterdir()) // MIB
    # Each piece is on both nodes for a moment, and Ray frees what nobody holds once a second.
    assert KEPT <= max(used) < KEPT + size // 2, max(used)
    assert not list((tmp_path / "other").glob("*/*/*"))
    print(f"{size} MiB in {seconds:.1f} s, at most {max(used) - KEPT} MiB in the object stores of both nodes")


def test_what_hands_a_directory_out_may_die_on_the_way(other_node: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    directory = weights(tmp_path / "0001")
    sent = send(directory)
    assert ray.get(ray.get(sent.source.piece.remote("empty", 0))[0]) == b""
    fetched = ray.remote(fetch).options(**other_node).remote([sent])
    deadline = time.monotonic() + 60
    while not any(file.stat().st_size for file in (tmp_path / "other").glob("*/*.tmp/*1*")):
        assert time.monotonic() < deadline
        time.sleep(0.001)
    ray.kill(sent.source, no_restart=False)
    assert ray.get(fetched)[1] == hashes(directory)
