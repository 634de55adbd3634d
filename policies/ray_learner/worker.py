"""What runs in a process that trains together with others: the learner of one process, with accelerate inside."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

# Nothing heavy: PyTorch reads the environment that the worker sets when it is imported.
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


class LearnerWorker:
    """One of the processes that train together."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        os.environ.update(environment)
        self._steps: tuple[int, int, float | None] = (0, 0, None)

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
        """Train with the others; the first process writes the whole model to `out`.

        The result has no model. Raises what the training raises.
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
                )
                learner = LocalLearner(
                    encoder,
                    trust_remote_code=work.trust_remote_code,
                    dtype=work.dtype,
                    on_device=not work.settings.sharded,
                )
                work_dir = Path(out).with_name(f"process-{rank}")
                model = learner.load(directory)
                result = learner.train(work.algorithm, model, work.items, work.settings, work_dir, self._progress)
                save_whole(result.model, Path(out))
        finally:
            torch.distributed.destroy_process_group()
            delete_fetched()
        return replace(result, model=None)

    def steps(self) -> tuple[int, int, float | None]:
        """(steps done, steps in all, latest loss); answered while it trains."""
        return self._steps

    def _progress(self, done: int, total: int, loss: float | None) -> None:
        self._steps = (done, total, loss)
