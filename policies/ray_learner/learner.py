"""The learner whose trainings run in several processes."""

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any

from policies import PolicyError
from policies.encoding import Encoder
from policies.learner.base import Algorithm, TrainingResult, TrainingSettings
from policies.learner.callbacks import Progress
from policies.learner.checkpoints import latest_checkpoint, step_of
from policies.learner.learner import LocalLearner
from policies.ray_engines.cluster import Resources, joined, reason_of
from policies.ray_engines.images import ImageSource
from policies.ray_engines.transfer import Place, send
from policies.ray_learner.worker import LearnerWorker, Work
from policies.sampler import Say
from policies.verifier import ScoredChain

LOOK_SECONDS = 0.5
"""How often the steps of the first process are read."""

STOP_SECONDS = 120.0
"""How long processes that are to stop have to write a checkpoint."""

END_SECONDS = 10.0
"""How soon the others end when one is lost."""


@dataclass(frozen=True)
class WorkerSettings:
    """The number of processes that train together, the resources of each, and whether they shard the weights (FSDP2).

    `restarts_without_progress`: most restarts after a lost process without a new checkpoint between them.
    """

    workers: int
    each: Resources
    sharded: bool = False
    address: str | None = None
    shared_files: bool = False
    environment: dict[str, str] = field(default_factory=dict)
    restarts_without_progress: int = 3


class ProcessLost(PolicyError):
    """A process of the learner died."""


@dataclass(frozen=True)
class SavedModel:
    """A model that this process does not hold: its directory."""

    directory: Path

    def save_pretrained(self, folder: Path, **_: object) -> None:
        """Copy it, file by file, sharded as it is."""
        for file in self.directory.iterdir():
            if file.is_file():
                shutil.copy2(file, folder / file.name)


class WorkersLearner:
    """See `policies.learner.learner.Learner`.

    Models are directories here; what only scores or interpolates loads them in this process.
    """

    def __init__(
        self,
        local: LocalLearner,
        encoder: Encoder,
        model: Path,
        images: ImageSource,
        settings: WorkerSettings,
        say: Say = lambda _: None,
    ):
        self._local, self._encoder, self._images, self._settings = local, encoder, images, settings
        self._say = say
        self._processor = model
        self._trained = count(1)

    def load(self, directory: Path | str) -> SavedModel:
        """The model's directory; nothing is loaded here."""
        return SavedModel(Path(directory))

    def with_adapter(self, model: SavedModel, directory: Path) -> Any:
        """Raises PolicyError: the configuration lets an adapter go on in one process only."""
        raise PolicyError("an adapter goes on over rounds with learner.workers = 1 only")

    def train(
        self,
        algorithm: Algorithm,
        model: SavedModel,
        items: Sequence[Any],
        settings: TrainingSettings,
        work_dir: Path,
        progress: Progress,
    ) -> TrainingResult:
        """Train in processes that are started for it; the model of the result lies in `work_dir`.

        When a process is lost, all are restarted and continue from the last checkpoint. Raises PolicyError where they
        are lost too often without a checkpoint in between, or the batch cannot be shared out.
        """
        self._require_shares(settings)
        out = work_dir / f"trained-{next(self._trained)}"
        losses, reached = 0, 0
        with joined(self._settings.address):
            while True:
                shutil.rmtree(out, ignore_errors=True)  # of a training that was killed
                out.mkdir(parents=True)
                try:
                    with self._workers() as workers:
                        result = self._run(workers, algorithm, model, items, settings, out, progress)
                    return replace(result, model=SavedModel(out))
                except ProcessLost as error:
                    checkpoint = latest_checkpoint(work_dir) if settings.checkpoint_minutes else None
                    step = 0 if checkpoint is None else step_of(checkpoint)
                    losses, reached = (0 if step > reached else losses + 1), max(step, reached)
                    if losses > self._settings.restarts_without_progress:
                        raise PolicyError(
                            f"{error}; lost {losses} times without a checkpoint in between; look into"
                            " run.log, then run again"
                        ) from error
                    self._say(f"  {error}; " + (f"going on after step {step}" if step else "training anew"))

    def token_logprobs(
        self,
        model: SavedModel | Any,
        chains: Sequence[ScoredChain],
        progress: Callable[[int], object] = lambda _: None,
        mixed_precision: str = "no",
        sides: int = 1,
    ) -> list[list[float]]:
        """Score in this process."""
        return self._local.token_logprobs(self._at_hand(model), chains, progress, mixed_precision, sides)

    def interpolate(self, start: SavedModel, end: SavedModel, alpha: float) -> Any:
        """Interpolate in this process."""
        return self._local.interpolate(self._at_hand(start), self._at_hand(end), alpha)

    def publish(self, model: SavedModel | Any, directory: Path, adapters: Mapping[str, Path] | None = None) -> str:
        """Write model, processor and adapters."""
        return self._local.publish(model, directory, adapters)

    def free_memory(self) -> None:
        """As the learner of one process does."""
        self._local.free_memory()

    def _at_hand(self, model: SavedModel | Any) -> Any:
        return self._local.load(model.directory) if isinstance(model, SavedModel) else model

    def _require_shares(self, settings: TrainingSettings) -> None:
        workers = self._settings.workers
        if settings.batch_size % workers:
            raise PolicyError(
                f"batch_size = {settings.batch_size} cannot be shared out among learner.workers = {workers}; take a"
                " multiple"
            )
        if self._settings.sharded and settings.lora_rank:
            raise PolicyError("learner.strategy = 'fsdp2' and lora_rank > 0 do not go together; take strategy = 'ddp'")

    @contextmanager
    def _workers(self) -> Iterator[list[Any]]:
        import ray

        each = self._settings.each
        # Two threads: one trains, the other says how far it is.
        worker = ray.remote(LearnerWorker).options(
            num_cpus=each.cpus, num_gpus=each.gpus, max_concurrency=2, max_restarts=0, scheduling_strategy="SPREAD"
        )
        started: list[Any] = [worker.remote(dict(self._settings.environment)) for _ in range(self._settings.workers)]
        try:
            yield started
        finally:
            for each_worker in started:
                ray.kill(each_worker)

    def _run(
        self,
        workers: list[Any],
        algorithm: Algorithm,
        model: SavedModel,
        items: Sequence[Any],
        settings: TrainingSettings,
        out: Path,
        progress: Progress,
    ) -> TrainingResult:
        import ray

        nodes = _answers([worker.node.remote() for worker in workers])
        here = ray.get_runtime_context().get_node_id()
        # The first process writes the weights, so it should be where they are wanted.
        order = sorted(range(len(workers)), key=lambda n: nodes[n] != here)
        workers, nodes = [workers[n] for n in order], [nodes[n] for n in order]
        if nodes[0] != here and not self._settings.shared_files:
            raise PolicyError(
                "no process of the learner is on the controller's node; leave it a place, or set cluster.shared_files"
            )
        local = self._settings.shared_files or set(nodes) == {here}
        # Kept until the training ends: what another node fetches is handed out no longer than that.
        start, processor = _place(model.directory, local), _place(self._processor, local)
        names = sorted({name for item in items for name in item.prompt.images})
        work = ray.put(
            Work(
                algorithm=algorithm,
                items=items,
                settings=replace(settings, sharded=self._settings.sharded),
                model=start,
                processor=processor,
                images={name: ray.put(self._images.read(name)) for name in names},
                decode=self._images.decode,
                trust_remote_code=self._local.trust_remote_code,
                dtype=self._local.dtype,
                chat_settings=self._encoder.chat_settings,
            )
        )
        (first,) = _answers([workers[0].address.remote()])
        ranks = [nodes[:n].count(node) for n, node in enumerate(nodes)]
        calls = [
            worker.train.remote(work, rank, ranks[rank], len(workers), first, str(out))
            for rank, worker in enumerate(workers)
        ]
        waiting = list(calls)
        while waiting:
            done, waiting = ray.wait(waiting, num_returns=1, timeout=LOOK_SECONDS)
            try:
                steps = ray.get([workers[0].steps.remote(), *done])[0]
            except ray.exceptions.RayError as error:
                raise _what_happened(calls, error) from None
            try:
                progress(*steps)
            except Exception:
                if settings.checkpoint_minutes:
                    workers[0].stop.remote()
                    ray.wait(calls, num_returns=len(calls), timeout=STOP_SECONDS)
                raise
        result: TrainingResult = ray.get(calls[0])
        return result


def _answers(calls: list[Any]) -> list[Any]:
    """The processes' answers to calls before they train; raises ProcessLost if one is gone."""
    import ray

    try:
        found: list[Any] = ray.get(calls)
    except ray.exceptions.RayActorError as error:
        raise ProcessLost(f"a process of the learner is lost ({reason_of(error)})") from error
    return found


def _what_happened(calls: list[Any], first: Exception) -> Exception:
    """The error of a training: ProcessLost where a process died, else its own.

    The others of a lost process end with errors of their own, which may come first.
    """
    import ray

    ended, _ = ray.wait(calls, num_returns=len(calls), timeout=END_SECONDS)
    errors: list[Exception] = [first]
    for call in ended:
        try:
            ray.get(call)
        except ray.exceptions.RayError as other:
            errors.append(other)
    for each in errors:
        if isinstance(each, PolicyError):  # of the training itself; Ray's own text is the other process's traceback
            own: Exception = getattr(each, "cause", each)
            return own
    for each in errors:
        if isinstance(each, ray.exceptions.RayActorError):
            return ProcessLost(f"a process of the learner is lost ({reason_of(each)})")
    return PolicyError(
        f"the training ends with an error ({reason_of(first)}); its processes' logs are in Ray's session"
    )


def _place(directory: Path, local: bool) -> Place:
    return directory.resolve() if local else send(directory)
