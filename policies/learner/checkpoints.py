"""Checkpoints of a training: a killed training continues from the last one, to the same weights, bit for bit."""

import json
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from policies.learner.distributed import processes
from policies.learner.shared_state import (
    collect_files,
    from_first,
    hand_out_files,
    is_first,
    load_optimizer,
    load_tensors,
    save_optimizer,
    save_tensors,
)
from policies.weights import delete_directory, written_whole

PREFIX = "checkpoint-"
WEIGHTS, REFERENCE, OPTIMIZER, MANIFEST = "model.safetensors", "reference.safetensors", "optimizer.pt", "manifest.json"
SCHEDULER = "scheduler.pt"


class Checkpoints:
    """The checkpoints of one training, in its directory; the last one stays. With `minutes` 0 there are none.

    One holds what the training changes: the weights that are trained, a moving reference, the state of optimizer,
    schedule and random numbers, and the trainer's log. transformers' own saving would write all weights, and its
    loading draws the order of a later epoch again; so the random state at the epoch's start is kept as well.

    Of processes that train together the first one writes and reads it: whole tensors, and the random numbers of each.
    """

    def __init__(self, directory: Path, minutes: float) -> None:
        self._directory, self._minutes = directory, minutes
        latest = latest_checkpoint(directory) if minutes and is_first() else None
        self._from = hand_out_files(latest, directory, without=(WEIGHTS, REFERENCE, OPTIMIZER)) if minutes else None
        self._began = self._saved = time.monotonic()
        self._seconds_before = float(_manifest(self._from)["seconds"]) if self._from else 0.0
        self._at_epoch: torch.Tensor | None = None
        self._trainer: Any = None

    @property
    def seconds(self) -> float:
        """Seconds of the training so far, those before a kill included."""
        return self._seconds_before + time.monotonic() - self._began

    def attach(self, trainer: Any) -> str | None:
        """Make the trainer continue from the last checkpoint; returns its directory for `Trainer.train`, or None."""
        self._trainer = trainer
        if self._from is None:
            return None
        found = self._from
        trainer._load_from_checkpoint = lambda *_: load_tensors(dict(trainer.model.named_parameters()), found / WEIGHTS)
        if processes() > 1:
            trainer._load_optimizer_and_scheduler = lambda *_: _load_steps(trainer, found)
        if (reference := getattr(trainer, "ref_model", None)) is not None:
            load_tensors(dict(reference.named_parameters()), found / REFERENCE)
        history = json.loads((found / "trainer_state.json").read_text())["log_history"]
        if hasattr(trainer, "_total_train_tokens"):
            trainer._total_train_tokens = history[-1].get("num_tokens", 0)
        return str(found)

    def epoch_begins(self, state: Any) -> None:
        """Called before an epoch's order is drawn. In the epoch of the checkpoint it is drawn as it was."""
        if self._from is not None:
            # After a whole epoch the trainer draws the next one from the random numbers of the checkpoint.
            between = state.epoch == int(state.epoch)
            numbers = self._from / _of_process("rng_state.pth" if between else "epoch.pt")
            torch.set_rng_state(torch.load(numbers, weights_only=not between)["cpu"])
            self._from = None
        self._at_epoch = torch.get_rng_state()

    def wanted(self, *, stopping: bool) -> tuple[bool, bool]:
        """Whether the training is to stop, and whether to write a checkpoint; the same in every process."""
        due = time.monotonic() - self._saved >= 60 * self._minutes
        if not self._minutes:
            return stopping, False
        stop, save = from_first((stopping, stopping or due))
        return stop, save

    def save(self) -> None:
        """Write a checkpoint beside the last one, then replace that; nothing if checkpoints are off."""
        if not self._minutes:
            return
        trainer = self._trainer
        place = self._directory / f"{PREFIX}{trainer.state.global_step}"
        with _written(place) as folder:
            save_tensors(_trained(trainer.model), folder / WEIGHTS)
            if (reference := getattr(trainer, "ref_model", None)) is not None:
                save_tensors(dict(reference.named_parameters()), folder / REFERENCE)
            if processes() == 1:
                trainer._save_optimizer_and_scheduler(str(folder))
            else:
                _save_steps(trainer, folder)
            trainer._save_rng_state(str(folder))
            torch.save({"cpu": self._at_epoch}, folder / _of_process("epoch.pt"))
            collect_files(folder)
            if is_first():
                trainer.state.save_to_json(str(folder / "trainer_state.json"))
                sizes = {file.name: file.stat().st_size for file in folder.iterdir()}
                (folder / MANIFEST).write_text(json.dumps({"seconds": self.seconds, "sizes": sizes}))
        if is_first():
            for other in self._directory.glob(f"{PREFIX}*"):
                if other != place:
                    delete_directory(other)
        self._saved = time.monotonic()


@contextmanager
def _written(place: Path) -> Iterator[Path]:
    """The checkpoint's folder, which appears complete or not at all; in all but the first process a temporary one."""
    if is_first():
        with written_whole(place) as folder:
            yield folder
    else:
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder)


def _of_process(name: str) -> str:
    """The file's name in a checkpoint of several processes, as transformers names theirs."""
    stem, _, ending = name.partition(".")
    return name if processes() == 1 else f"{stem}_{torch.distributed.get_rank()}.{ending}"


def _save_steps(trainer: Any, folder: Path) -> None:
    save_optimizer(trainer.optimizer.optimizer, folder / OPTIMIZER)
    if is_first():
        torch.save(trainer.lr_scheduler.state_dict(), folder / SCHEDULER)


def _load_steps(trainer: Any, checkpoint: Path) -> None:
    load_optimizer(trainer.optimizer.optimizer, checkpoint / OPTIMIZER)
    trainer.lr_scheduler.load_state_dict(torch.load(checkpoint / SCHEDULER, weights_only=True))


def latest_checkpoint(directory: Path) -> Path | None:
    """The last whole checkpoint of a training, or None."""
    whole = [place for place in directory.glob(f"{PREFIX}*[0-9]") if is_whole(place)]
    return max(whole, key=step_of, default=None)


def step_of(checkpoint: Path) -> int:
    """The optimizer steps that were done when it was written."""
    return int(checkpoint.name.removeprefix(PREFIX))


def is_whole(checkpoint: Path) -> bool:
    """Whether every file of it is there in the size that it was written in, under the name of a step."""
    if not checkpoint.name.removeprefix(PREFIX).isdecimal():
        return False
    try:
        sizes = _manifest(checkpoint)["sizes"]
        return all((checkpoint / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError, KeyError):
        return False


def _manifest(checkpoint: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((checkpoint / MANIFEST).read_text())
    return content


def _trained(model: Any) -> dict[str, torch.Tensor]:
    return {name: value.detach() for name, value in model.named_parameters() if value.requires_grad}
