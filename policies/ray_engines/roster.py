"""The engines of a run: starts them, restarts lost ones, proves their weights, and excludes those that fail."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from policies import PolicyError
from policies.prompt import Prompt
from policies.ray_engines.actor import DecodeImage, Description, EngineActor, Reply, StartEngine
from policies.ray_engines.cluster import NOTHING, Resources, reason_of
from policies.ray_engines.engine import Engine
from policies.ray_engines.transfer import Place, SentDirectory, send
from policies.ray_engines.versions import differing_version, installed_versions
from policies.sampler import Check

CLOSE_SECONDS = 30.0
"""How long engines have to close before they are killed."""


@dataclass(frozen=True)
class ClusterSettings:
    """The number of engines, their place, and their time limits.

    `replicas` None: as many as the cluster can hold, with `kept` left free. `waiting` requests are with each engine at
    once. `shared_files`: every node sees the controller's directories.
    """

    replicas: int | None
    each: Resources
    waiting: int
    kept: Resources = NOTHING
    address: str | None = None
    shared_files: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)
    start_seconds: float = 900.0
    swap_seconds: float = 600.0
    restarts_without_progress: int = 3


@dataclass(frozen=True)
class Probe:
    """The chains that every engine scores before it serves, and the check of its scores."""

    prompts: Sequence[Prompt]
    completions: Sequence[Sequence[int]]
    images: Mapping[str, Any]
    check: Check


class NoEngines(PolicyError):
    """Every engine is shut out."""


class Roster:
    """The engines, and the weights and the probe that they must serve."""

    def __init__(
        self,
        replicas: int,
        settings: ClusterSettings,
        start_engine: StartEngine,
        decode: DecodeImage,
        model: Path,
        say: Callable[[str], object],
    ) -> None:
        import ray

        self._settings, self._start_engine, self._decode, self._say = settings, start_engine, decode, say
        self._here: str = ray.get_runtime_context().get_node_id()
        self._model = model
        self._weights: Path | None = None
        self._probe: Probe | None = None
        self._passed: dict[int, list[float]] = {}
        """The probe's scores by the engines that passed it."""
        self._sent: dict[Path, SentDirectory] = {}
        self._sha256: str | None = None
        self.engines = [Engine(number) for number in range(replicas)]
        for engine in self.engines:
            self._begin(engine)
        self.wait_for_all()
        self.serving()

    def serving(self) -> list[Engine]:
        """The engines that hold the weights. Raises NoEngines if every one is shut out."""
        if all(engine.out for engine in self.engines):
            raise NoEngines("no engine is left: " + "; ".join(f"{e.name}: {e.lost_because}" for e in self.engines))
        return [engine for engine in self.engines if not engine.out and engine.reviving is None]

    def load(self, directory: Path) -> str:
        """Swap the weights of every engine; returns the sha256 of what they loaded.

        An engine is restarted if it fails, exceeds the swap's time limit, or loads other bytes than most engines.
        Engines that are still starting load the new weights later; the call does not wait for them.
        """
        self._weights, self._sha256, self._probe = directory, None, None
        for engine in self.engines:
            if engine.reviving is not None:
                self._kill(engine)
                self._begin(engine)
        self._wait_for_one()
        found = self._on_all(lambda engine: engine.actor.load.remote(self._place(directory, engine)), "swap")
        digests = list(found.values())
        self._sha256 = max(digests, key=digests.count) if digests else self._sha256
        for number, digest in found.items():
            self.engines[number].serves = digest
            if digest != self._sha256:
                self.lose(self.engines[number], f"loaded sha256 {digest[:12]}…, most engines {str(self._sha256)[:12]}…")
        self._wait_for_one()
        self._sent = {path: sent for path, sent in self._sent.items() if path in (self._model, directory)}
        return self.sha256

    def prove(self, probe: Probe) -> list[float]:
        """Let every engine score the probe; one whose scores fail is restarted, and shut out if it fails twice.

        Engines that are still starting score it later. Returns the scores of the first one that passed. Raises
        NoEngines, with the fault of each, if none does.
        """
        self._probe, self._passed = probe, {}
        for engine in self.engines:
            if engine.reviving is not None:
                engine.reviving.append(self._score(engine, probe))
        for number, scores in self._on_all(lambda engine: self._score(engine, probe), "probe").items():
            if fault := probe.check(scores):
                self._failed_proof(self.engines[number], fault)
            else:
                self._pass(self.engines[number], scores)
        self._wait_for_one()
        return self._passed[min(self._passed)]

    def lose(self, engine: Engine, reason: str) -> None:
        """Treat an engine as lost: restart it, or shut it out if it was lost too often without finishing a chain."""
        engine.failures += 1
        self._restart(engine, reason, out=engine.failures > self._settings.restarts_without_progress)

    def admit(self, engine: Engine) -> None:
        """Use a restarted engine once its first calls are done; treat it as lost if its proof fails."""
        import ray

        calls, engine.reviving = engine.reviving, None
        try:
            place, *rest = [self.log(engine, ray.get(call)) for call in calls]
        except Exception as error:  # any error that ends a process on another machine
            self.lose(engine, reason_of(error))
            return
        self._take_place(engine, place)
        if engine.place is None or not rest:
            return
        engine.serves = rest[0]
        self._sha256 = self._sha256 or rest[0]
        if engine.serves != self._sha256:
            self.lose(engine, f"loaded sha256 {str(engine.serves)[:12]}…, the others {self._sha256[:12]}…")
        elif self._probe is not None:
            if fault := self._probe.check(rest[1]):
                self._failed_proof(engine, fault)
            else:
                self._pass(engine, rest[1])

    def wait_for_all(self) -> None:
        """Wait until no engine is starting any more."""
        while any(engine.reviving is not None for engine in self.engines):
            self._admit_next()

    def _wait_for_one(self) -> None:
        """Wait until one engine serves. Raises NoEngines if every one is shut out."""
        while not self.serving():
            self._admit_next()

    def _admit_next(self) -> None:
        """Admit the first engine that has started; lose those that take too long."""
        import ray

        waiting = {engine.reviving[-1]: engine for engine in self.engines if engine.reviving is not None}
        done, late = ray.wait(list(waiting), num_returns=1, timeout=self._settings.start_seconds)
        for call in done:
            self.admit(waiting[call])
        for call in late if not done else ():
            self.lose(waiting[call], f"did not start within {self._settings.start_seconds:.0f} s")

    def close(self) -> None:
        """Free every engine; one that does not answer is killed."""
        import ray

        running = [engine for engine in self.engines if engine.actor is not None and engine.reviving is None]
        if calls := [engine.actor.close.remote() for engine in running]:
            ray.wait(calls, num_returns=len(calls), timeout=CLOSE_SECONDS)
        for engine in self.engines:
            self._kill(engine)

    @property
    def sha256(self) -> str:
        """The sha256 of the served weights."""
        assert self._sha256 is not None, "load() comes first"
        return self._sha256

    def log(self, engine: Engine, reply: Reply[Any]) -> Any:
        """The value of a reply; the log lines of its process go to the run's log under the engine's name."""
        for level, text in reply.log:
            logging.getLogger(engine.name).log(level, text)
        return reply.value

    def _begin(self, engine: Engine) -> None:
        import ray

        each = self._settings.each
        remote = ray.remote(EngineActor).options(
            num_cpus=each.cpus, num_gpus=each.gpus, max_restarts=0, max_task_retries=0, scheduling_strategy="SPREAD"
        )
        engine.serves, engine.place = None, None
        engine.actor = remote.remote(dict(self._settings.environment))
        # Which node it gets is known when it runs: a model that only this node has would fail on another one.
        model: Place = self._model if self._everywhere() else self._send(self._model)
        calls = [engine.actor.start.remote(self._start_engine, self._decode, model)]
        if self._weights is not None:
            weights: Place = self._weights if self._everywhere() else self._send(self._weights)
            calls.append(engine.actor.load.remote(weights))
            if self._probe is not None and self._sha256 is not None:
                calls.append(self._score(engine, self._probe))
        engine.reviving = calls

    def _score(self, engine: Engine, probe: Probe) -> Any:
        return engine.actor.score.remote(self._sha256, probe.prompts, probe.completions, dict(probe.images))

    def _on_all(self, call: Callable[[Engine], Any], what: str) -> dict[int, Any]:
        """Engine's number -> value, for each serving engine whose call succeeds in time; the others are restarted."""
        import ray

        seconds = self._settings.swap_seconds
        calls = [(engine, call(engine)) for engine in self.serving()]
        until, found = time.monotonic() + seconds, dict[int, Any]()
        for engine, reference in calls:
            try:
                reply = ray.get(reference, timeout=max(0.0, until - time.monotonic()))
                found[engine.number] = self.log(engine, reply)
            except ray.exceptions.GetTimeoutError:
                self.lose(engine, f"its {what} took more than {seconds:.0f} s")
            except ray.exceptions.RayError as error:
                self.lose(engine, reason_of(error))
        return found

    def _restart(self, engine: Engine, reason: str, *, out: bool) -> None:
        tail = engine.last_log_lines(self._here)
        engine.lost_because = f"{reason}; its last lines: {tail}" if tail else reason
        where = engine.where
        self._kill(engine)
        engine.asked.clear()
        engine.calls.clear()
        engine.serves, engine.out = None, out
        if out:
            self._say(f"  {where} is shut out: {engine.lost_because}")
            return
        self._say(f"  {where} is lost and begun again: {engine.lost_because}")
        engine.restarts += 1
        self._begin(engine)

    def _pass(self, engine: Engine, scores: Sequence[float]) -> None:
        engine.failed_proofs = 0
        self._passed[engine.number] = list(scores)

    def _failed_proof(self, engine: Engine, fault: str) -> None:
        engine.failed_proofs += 1
        self._restart(engine, fault, out=engine.failed_proofs > 1)

    def _take_place(self, engine: Engine, place: Description) -> None:
        engine.place = place
        if different := differing_version(installed_versions(), place.versions):
            engine.failures = self._settings.restarts_without_progress
            self.lose(engine, f"node {place.host} has other packages: {different}; install the same set on every node")

    def _place(self, directory: Path, engine: Engine) -> Place:
        assert engine.place is not None
        local = self._settings.shared_files or engine.place.node == self._here
        return directory if local else self._send(directory)

    def _everywhere(self) -> bool:
        import ray

        nodes = ray.nodes()  # type: ignore[no-untyped-call]
        return self._settings.shared_files or sum(node["Alive"] for node in nodes) == 1

    def _send(self, directory: Path) -> SentDirectory:
        if directory not in self._sent:
            self._sent[directory] = send(directory)
        return self._sent[directory]

    def _kill(self, engine: Engine) -> None:
        import ray

        if engine.actor is not None:
            ray.kill(engine.actor)
            engine.actor = None
