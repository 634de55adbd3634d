"""Many engines behind one sampler: real Ray, processes that are killed, engines without a model."""

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ray")

import torch
from ray.cluster_utils import Cluster
from safetensors.torch import save_file

from policies import PolicyError
from policies.prompt import Prompt
from policies.ray_engines.cluster import Resources
from policies.ray_engines.engines import RayEngines
from policies.ray_engines.images import ImageSource
from policies.ray_engines.roster import ClusterSettings, NoEngines
from policies.sampler import Request, RequestRefused
from policies.weights import weights_sha256
from tests.support.simulated_engine import StartSimulated, as_it_is, simulated_chain, simulated_scores

pytestmark = pytest.mark.heavy

PROBE = [Prompt("probe")]


def image(name: str) -> bytes:
    return name.encode() * 3


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Two nodes on this machine."""
    running = Cluster(initialize_head=True, head_node_args={"num_cpus": 4, "include_dashboard": False})
    running.add_node(num_cpus=4)
    running.wait_for_nodes()
    yield running
    running.shutdown()  # type: ignore[no-untyped-call]


@pytest.fixture
def policies(tmp_path: Path) -> list[Path]:
    folders = [tmp_path / "model", tmp_path / "0001", tmp_path / "0002"]
    for number, folder in enumerate(folders):
        folder.mkdir()
        save_file({"weight": torch.full((4,), float(number))}, folder / "model.safetensors")
    return folders


Said = list[str]
Begin = Callable[..., tuple[RayEngines, Said]]


@pytest.fixture
def begin(cluster: Cluster, policies: list[Path], tmp_path: Path) -> Iterator[Begin]:
    """Starts engines; they are closed after the test."""
    faults, running = tmp_path / "faults", list[RayEngines]()
    faults.mkdir()

    def start(replicas: int = 2, seconds: float = 0.0, cpus: int = 1, **options: Any) -> tuple[RayEngines, Said]:
        said: Said = []
        environment = {"TMPDIR": str(tmp_path)}
        settings = ClusterSettings(
            replicas, Resources(cpus, 0), 16, address=cluster.address, environment=environment, **options
        )
        source = ImageSource(image, as_it_is)
        running.append(RayEngines(policies[0], StartSimulated(faults, seconds), source, settings, said.append))
        return running[-1], said

    yield start
    for each in running:
        each.close()


def fault(tmp_path: Path, name: str) -> None:
    (tmp_path / "faults" / name).touch()


def requests(count: int) -> list[Request]:
    return [Request((n, "key"), Prompt(f"question {n}", (str(n % 3),)), 1.0, 8, seed=n) for n in range(count)]


def expected(directory: Path, count: int) -> dict[object, str]:
    sha256 = weights_sha256(directory)
    return {
        request.key: simulated_chain(sha256, request, [image(name) for name in request.prompt.images]).text
        for request in requests(count)
    }


def serve(engines: RayEngines, directory: Path) -> None:
    sha256 = engines.load_weights(directory)
    assert sha256 == weights_sha256(directory)

    def check(scores: object) -> str | None:
        return None if scores == simulated_scores(sha256, 1) else "these are not the scores"

    engines.prove(PROBE, [(1, 2)], check)


def sampled(engines: RayEngines, count: int) -> dict[object, str]:
    chains = list(engines.sample(requests(count)))
    assert max(Counter(chain.key for chain in chains).values()) == 1
    return {chain.key: chain.text for chain in chains}


def test_two_nodes_without_shared_files_answer_once(begin: Begin, policies: list[Path]) -> None:
    engines, _ = begin(seconds=0.002)
    for directory in (policies[1], policies[2]):
        serve(engines, directory)
        assert sampled(engines, 300) == expected(directory, 300)
    assert all(each.chains > 150 and each.state == "serving" for each in engines.status())


def test_closed_engines_leave_no_fetched_files(begin: Begin, policies: list[Path], tmp_path: Path) -> None:
    engines, _ = begin()
    serve(engines, policies[1])
    fetched = tmp_path / f"ratchet-{os.getuid()}"
    assert list(fetched.glob("*/model.safetensors"))
    engines.close()
    assert [each.name for each in fetched.iterdir()] == [".lock"]


def test_an_engine_killed_while_sampling_loses_nothing(begin: Begin, policies: list[Path]) -> None:
    engines, said = begin(seconds=0.005)
    serve(engines, policies[1])
    found: dict[object, str] = {}
    for chain in engines.sample(requests(400)):
        assert chain.key not in found
        found[chain.key] = chain.text
        if len(found) in (40, 200):
            os.kill(next(each.pid for each in engines.status() if each.state == "serving"), signal.SIGKILL)
    assert found == expected(policies[1], 400)
    assert sum(each.restarts for each in engines.status()) == 2
    assert "engine" in said[0]
    assert "process" in said[0]


@pytest.mark.slow
def test_a_hundred_engines_killed_at_random_lose_nothing(begin: Begin, policies: list[Path]) -> None:
    engines, _ = begin(replicas=4, seconds=0.01, restarts_without_progress=20)
    serve(engines, policies[1])
    rng, killed = random.Random(0), set[int]()
    while len(killed) < 100:
        found: dict[object, str] = {}
        for chain in engines.sample(requests(400)):
            assert chain.key not in found
            found[chain.key] = chain.text
            serving = {each.pid for each in engines.status() if each.state == "serving"} - killed
            if len(killed) < 100 and rng.random() < 0.05 and serving:
                chosen = rng.choice(sorted(serving))
                killed.add(chosen)
                os.kill(chosen, signal.SIGKILL)
        assert found == expected(policies[1], 400)
    assert sampled(engines, 400) == expected(policies[1], 400)  # those killed last are noticed
    assert sum(each.restarts for each in engines.status()) == 100


def test_an_engine_lost_between_calls_returns_with_new_weights(begin: Begin, policies: list[Path]) -> None:
    engines, _ = begin(replicas=1)
    serve(engines, policies[1])
    os.kill(engines.status()[0].pid, signal.SIGKILL)
    assert sampled(engines, 20) == expected(policies[1], 20)
    os.kill(engines.status()[0].pid, signal.SIGKILL)
    serve(engines, policies[2])
    assert sampled(engines, 20) == expected(policies[2], 20)


def test_engines_that_die_again_and_again_are_shut_out_and_named(
    begin: Begin, policies: list[Path], tmp_path: Path
) -> None:
    engines, said = begin(restarts_without_progress=1)
    serve(engines, policies[1])
    fault(tmp_path, "die-always")
    with pytest.raises(NoEngines, match=r"no engine is left: engine 0: .*engine 1: "):
        sampled(engines, 50)
    assert any("the simulated engine dies" in line for line in said), said
    assert sum("is shut out" in line for line in said) == 2


def test_an_engine_whose_proof_fails_once_is_begun_again(begin: Begin, policies: list[Path], tmp_path: Path) -> None:
    engines, said = begin()
    fault(tmp_path, "wrong-scores")
    serve(engines, policies[1])
    assert any("these are not the scores" in line for line in said)
    deadline = time.monotonic() + 60
    while any(each.state != "serving" for each in engines.status()) and time.monotonic() < deadline:
        assert sampled(engines, 40) == expected(policies[1], 40)
    assert [each.restarts for each in engines.status()] in ([0, 1], [1, 0])
    assert all(each.state == "serving" for each in engines.status())


def test_no_engine_serves_whose_proof_fails_twice(begin: Begin, policies: list[Path], tmp_path: Path) -> None:
    engines, _ = begin()
    fault(tmp_path, "wrong-scores-always")
    with pytest.raises(PolicyError, match="these are not the scores"):
        serve(engines, policies[1])
    assert all(each.state == "shut out" for each in engines.status())


def test_a_swap_that_takes_too_long_is_begun_again(begin: Begin, policies: list[Path], tmp_path: Path) -> None:
    engines, said = begin(swap_seconds=3.0)
    fault(tmp_path, "slow-load")
    serve(engines, policies[1])
    assert any("took more than 3 s" in line for line in said)
    assert sampled(engines, 40) == expected(policies[1], 40)


def test_sampling_that_is_abandoned_leaves_nothing_behind(begin: Begin, policies: list[Path]) -> None:
    engines, _ = begin(seconds=0.01)
    serve(engines, policies[1])
    next(iter(engines.sample(requests(100))))
    serve(engines, policies[2])
    assert sampled(engines, 30) == expected(policies[2], 30)


def test_a_refused_request_is_told_with_its_own_key(begin: Begin, policies: list[Path]) -> None:
    engines, _ = begin()
    serve(engines, policies[1])
    long = Request("mine", Prompt("too long"), 1.0, 8)
    told: list[tuple[object, str]] = []
    asked = [*requests(5), long]
    chains = list(engines.sample(asked, lambda request, reason: told.append((request.key, reason))))
    assert len(chains) == 5
    assert told == [("mine", "too long")]
    with pytest.raises(RequestRefused, match="mine"):
        list(engines.sample(asked))


def test_more_engines_than_the_cluster_has_room_for_are_refused(begin: Begin) -> None:
    with pytest.raises(PolicyError, match=r"engine\.replicas = 99 needs 99 CPUs, the cluster has 8"):
        begin(replicas=99)


def test_a_node_that_is_lost_takes_nothing_along(cluster: Cluster, begin: Begin, policies: list[Path]) -> None:
    third = cluster.add_node(num_cpus=8)
    cluster.wait_for_nodes()
    engines, _ = begin(replicas=3, seconds=0.005)
    serve(engines, policies[1])
    found: dict[object, str] = {}
    for chain in engines.sample(requests(300)):
        found[chain.key] = chain.text
        if len(found) == 30:
            cluster.remove_node(third, allow_graceful=False)
    assert found == expected(policies[1], 300)


def test_an_engine_without_a_place_is_not_waited_for(cluster: Cluster, begin: Begin, policies: list[Path]) -> None:
    third = cluster.add_node(num_cpus=4)
    cluster.wait_for_nodes()
    engines, _ = begin(replicas=3, cpus=4)
    serve(engines, policies[1])
    cluster.remove_node(third, allow_graceful=False)
    assert sampled(engines, 100) == expected(policies[1], 100)
    serve(engines, policies[2])
    assert sampled(engines, 100) == expected(policies[2], 100)
    assert sorted(each.state for each in engines.status()) == ["serving", "serving", "starting"]


def test_a_cluster_that_does_not_answer_is_one_line_with_the_key(policies: list[Path], tmp_path: Path) -> None:
    settings = ClusterSettings(2, Resources(1, 0), 16, address="127.0.0.1:1")
    started = time.monotonic()
    with pytest.raises(PolicyError, match=r"cluster\.address = '127\.0\.0\.1:1': nothing answers there") as raised:
        RayEngines(policies[0], StartSimulated(tmp_path), ImageSource(image, as_it_is), settings, print)
    assert "\n" not in str(raised.value)
    assert time.monotonic() - started < 30
