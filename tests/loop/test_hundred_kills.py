"""A hundred SIGKILLs at random of engines, learner processes and controllers: the run ends as if there were none."""

import os
import random
import signal
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.support.forked import Forked
from tests.support.killed_cluster import run_cluster
from tests.support.real_runs import poll
from tests.support.scripted_run import content

pytest.importorskip("ray")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

KILLS, ROUNDS, CHAIN_SECONDS = 100, 5, 0.3
ENGINE, WORKER, CONTROLLER = "EngineActor", "LearnerWorker", "controller"
SHARES = {ENGINE: 0.78, WORKER: 0.13, CONTROLLER: 0.09}
"""How often each kind is killed, where there are processes of it."""
AT_ONCE = 0.01
"""How often a kind is killed again before anything has come of it since its last kill: as often always, the run would
never get on."""
CHAINS = "SELECT (SELECT count(*) FROM sample) + (SELECT count(*) FROM evaluation)"
MARK = "RATCHET_TEST_RUN"
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 (only looked at)


class Killed:
    """A run whose processes are killed, and whose controller is started again until the run ends."""

    def __init__(self, model: Path, run_dir: Path, seed: int = 0) -> None:
        self._arguments = (str(model), str(run_dir), ROUNDS, CHAIN_SECONDS)
        self._run_dir, self._rng, self._mark = run_dir, random.Random(seed), uuid.uuid4().hex
        self.kills, self.ports = Counter[str](), set[int]()
        self.phases = Counter[str]()
        self._killed, self._reached = set[int](), dict[str, object]()
        self._controller = self._start()

    def _start(self) -> Forked:
        return Forked(run_cluster, *self._arguments, **{MARK: self._mark})

    def kill_until_it_ends(self, seconds: float) -> None:
        """Kill a process every second or two; fails the test if the run ends early, by itself, or not at all."""
        deadline = time.monotonic() + seconds
        while not self._controller.has_ended():
            assert time.monotonic() < deadline, f"no end after {self.kills}"
            time.sleep(self._rng.uniform(0.1, 1.5))
            if self.kills.total() < KILLS:
                self._kill_one()
        done = self._controller.wait()
        assert done.returncode == 0, f"{self.kills}\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}"

    def _kill_one(self) -> None:
        here = self._processes()
        kinds = [kind for kind in SHARES if here[kind]]
        if kinds == [CONTROLLER] or self._controller.has_ended():
            return  # it begins, or the run is over
        (kind,) = self._rng.choices(kinds, [SHARES[each] for each in kinds])
        reached = self._progress(kind)
        if self._reached.get(kind) == reached and self._rng.random() > AT_ONCE:
            return
        victim = self._rng.choice(here[kind])
        self.phases.update(
            row[0] for row in poll(self._run_dir, "SELECT phase FROM round ORDER BY number DESC LIMIT 1")
        )
        try:
            os.kill(victim, signal.SIGKILL)
        except ProcessLookupError:
            return
        self._killed.add(victim)
        self.kills[kind] += 1
        self._reached[kind] = reached
        if kind == CONTROLLER:
            self._controller.wait()
            self._controller = self._start()

    def _progress(self, kind: str) -> object:
        """The progress of a kind of process: chains in the store, checkpoints, or both."""
        checkpoints = sorted(place.name for place in self._run_dir.glob("training/*/checkpoint-*[0-9]"))
        chains = poll(self._run_dir, CHAINS)
        return {ENGINE: chains, WORKER: checkpoints, CONTROLLER: (chains, checkpoints)}[kind]

    def _processes(self) -> dict[str, list[int]]:
        """Process ids by kind: of the controller that runs now, those not killed yet."""
        found: dict[str, list[int]] = {ENGINE: [], WORKER: [], CONTROLLER: [self._controller.pid]}
        try:
            children = psutil.Process(self._controller.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return {kind: [] for kind in found}
        for process in children:
            try:
                words = " ".join(process.cmdline())
                self.ports |= {each.laddr.port for each in process.net_connections() if each.status == "LISTEN"}
            except psutil.Error:
                continue
            for kind in (ENGINE, WORKER):
                if kind in words and process.pid not in self._killed:
                    found[kind].append(process.pid)
        return found

    def left(self) -> Iterator[str]:
        """Processes of the run, of any of its controllers, and ports that they listened on."""
        own = set()
        for process in psutil.process_iter():
            try:
                if process.environ().get(MARK) == self._mark and process.status() != psutil.STATUS_ZOMBIE:
                    own.add(process.pid)
                    yield f"process {process.pid}: {' '.join(process.cmdline())[:80]}"
            except psutil.Error:
                continue
        for each in psutil.net_connections("tcp"):
            if each.status == "LISTEN" and each.laddr.port in self.ports and (each.pid is None or each.pid in own):
                yield f"port {each.laddr.port}"


def shared_memory() -> set[str]:
    return {each.name for each in SHARED_MEMORY.glob("*")} if SHARED_MEMORY.is_dir() else set()


def left_in_shared_memory(before: set[str]) -> set[str]:
    """New names that no living process maps; other tests use shared memory at the same time."""
    new, used = shared_memory() - before, ""
    for maps in Path("/proc").glob("[0-9]*/maps") if new else ():
        with suppress(OSError):
            used += maps.read_text(errors="replace")
    return {name for name in new if f"{SHARED_MEMORY}/{name}" not in used}


def test_a_hundred_kills_of_any_process_change_nothing(text_model: Path, tmp_path: Path) -> None:
    unbroken = Forked(run_cluster, str(text_model), str(tmp_path / "unbroken"), ROUNDS, 0.0).wait(1200)
    assert unbroken.returncode == 0, unbroken.stderr[-3000:]
    before = shared_memory()
    killed = Killed(text_model, tmp_path / "killed")
    killed.kill_until_it_ends(3000)
    assert killed.kills.total() == KILLS, killed.kills
    assert all(killed.kills[kind] >= 5 for kind in SHARES), killed.kills
    expected, found = content(tmp_path / "unbroken"), content(tmp_path / "killed")
    assert [name for name in expected if expected[name] != found[name]] == []
    deadline = time.monotonic() + 180  # Ray's own agents try to reach their head for a minute or two
    while (left := [*killed.left(), *left_in_shared_memory(before)]) and time.monotonic() < deadline:
        time.sleep(1)
    assert left == []
    print(dict(killed.kills), dict(killed.phases))
