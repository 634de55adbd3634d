"""One of several processes that train together: the learner of one process, with accelerate."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

# Nothing heavy: PyTorch reads the environment that the worker sets when it is imported.
from policies.prompt import NO_SETTINGS, ChatSettings

if TYPE_CHECKING:
    from policies.learner.base import Algorithm, TrainingResult, TrainingSettings
    from policies.ray_engines.actor import DecodeImage
    from policies.ray_engines.transfer import Place

TIMEOUT = timedelta(minutes=30)
"""After so long without the others a process gives up; a process that dies is noticed at once."""


@dataclass(frozen=True)
class Work:
    """One training, as every process gets it."""

    algorithm: Algorithm
    items: Sequence[Any]
    settings: TrainingSettings
    model: Place
    processor: Place
    """The directory with the tokenizer and the image processor."""
    images: Mapping[str, Any]
    """Name -> reference of the encoded image."""
    decode: DecodeImage
    trust_remote_code: bool
    dtype: str
    chat_settings: ChatSettings = NO_SETTINGS


class LearnerWorker:
    """One of the processes that train together."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        os.environ.update(environment)
        self._steps: tuple[int, int, float | None] = (0, 0, None)
        self._stopping = False

    def address(self) -> tuple[str, int]:
        """This node's address and a free port on it, where the others find the first process."""
        import ray

        with socket.socket() as free:
            free.bind(("", 0))
            host: str = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]
            return host, int(free.getsockname()[1])

    def node(self) -> str:
        """The id of the node that it runs on."""
        import ray

        return str(ray.get_runtime_context().get_node_id())

    def train(
        self, work: Work, rank: int, local_rank: int, of: int, first: tuple[str, int], out: str
    ) -> TrainingResult:
        """Train with the others; the first process writes the whole model to `out`, and checkpoints beside it.

        The result has no model. Raises what the training raises, TrainingStopped after `stop`.
        """
        os.environ |= {
            "RANK": str(rank),
            "LOCAL_RANK": str(local_rank),
            "WORLD_SIZE": str(of),
            "MASTER_ADDR": first[0],
            "MASTER_PORT": str(first[1]),
        }
        import ray
        import torch

        from policies.encoding import Encoder
        from policies.learner.distributed import save_whole
        from policies.learner.learner import LocalLearner
        from policies.ray_engines.transfer import at_hand, delete_fetched

        torch.distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo", timeout=TIMEOUT)
        try:
            with at_hand(work.model) as directory, at_hand(work.processor) as processor:
                encoder = Encoder(
                    str(processor),
                    lambda name: work.decode(ray.get(work.images[name])),
                    trust_remote_code=work.trust_remote_code,
                    chat_settings=work.chat_settings,
                )
                learner = LocalLearner(
                    encoder,
                    trust_remote_code=work.trust_remote_code,
                    dtype=work.dtype,
                    on_device=not work.settings.sharded,
                )
                model = learner.load(directory)
                with _place_of(rank, Path(out).parent) as work_dir:
                    result = learner.train(work.algorithm, model, work.items, work.settings, work_dir, self._progress)
                    save_whole(result.model, Path(out))
        finally:
            torch.distributed.destroy_process_group()
            delete_fetched()
        return replace(result, model=None)

    def steps(self) -> tuple[int, int, float | None]:
        """(steps done, steps in all, latest loss); answered while it trains."""
        return self._steps

    def stop(self) -> None:
        """Have the training end after the step that is being done; asked of the first process, it ends in all."""
        self._stopping = True

    def _progress(self, done: int, total: int, loss: float | None) -> None:
        from policies.learner.callbacks import TrainingStopped

        self._steps = (done, total, loss)
        if self._stopping:
            raise TrainingStopped("the training was asked to stop")


@contextmanager
def _place_of(rank: int, work_dir: Path) -> Iterator[Path]:
    """The directory of a process: the first one's holds the checkpoints, the others' are temporary.

    The first one of a training whose controller was killed may be alive for a moment, and write there.
    """
    from policies.weights import alone_in

    if rank == 0:
        with alone_in(work_dir):
            yield work_dir
    else:
        with tempfile.TemporaryDirectory(prefix=f"ratchet-process-{rank}-") as own:
            yield Path(own)
