"""Checkpoints of a training: after a kill it goes on from the last one, and ends with the same weights, bit for bit."""

import json
import shutil
import time
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from policies.weights import written_whole

PREFIX = "checkpoint-"
WEIGHTS, REFERENCE, EPOCH, MANIFEST = "model.safetensors", "reference.safetensors", "epoch.pt", "manifest.json"


class Checkpoints:
    """The checkpoints of one training, in its directory; the last one stays. With `minutes` 0 there are none.

    One holds what the training changes: the weights that are trained, a moving reference, the state of optimizer,
    schedule and random numbers, and the trainer's log. transformers' own saving would write all weights, and its
    loading draws the order of a later epoch anew; so the random numbers at the epoch's begin are kept, too.
    """

    def __init__(self, directory: Path, minutes: float) -> None:
        self._directory, self._minutes = directory, minutes
        self._from = latest_checkpoint(directory) if minutes else None
        self._began = self._saved = time.monotonic()
        self._seconds_before = float(_manifest(self._from)["seconds"]) if self._from else 0.0
        self._at_epoch: torch.Tensor | None = None
        self._trainer: Any = None

    @property
    def seconds(self) -> float:
        """Seconds of the training so far, those before a kill included."""
        return self._seconds_before + time.monotonic() - self._began

    def attach(self, trainer: Any) -> str | None:
        """Make the trainer go on from the last checkpoint; returns its directory for `Trainer.train`, or None."""
        self._trainer = trainer
        if self._from is None:
            return None
        found = self._from
        trainer._load_from_checkpoint = lambda *_: _load_weights(trainer.model, found / WEIGHTS)
        if (found / REFERENCE).exists():
            _load_weights(trainer.ref_model, found / REFERENCE)
        history = json.loads((found / "trainer_state.json").read_text())["log_history"]
        if hasattr(trainer, "_total_train_tokens"):
            trainer._total_train_tokens = history[-1].get("num_tokens", 0)
        return str(found)

    def epoch_begins(self, state: Any) -> None:
        """Called before an epoch's order is drawn. In the epoch of the checkpoint it is drawn as it was."""
        if self._from is not None:
            # After a whole epoch the trainer draws the next one from the random numbers of the checkpoint.
            between = state.epoch == int(state.epoch)
            numbers = self._from / ("rng_state.pth" if between else EPOCH)
            torch.set_rng_state(torch.load(numbers, weights_only=not between)["cpu"])
            self._from = None
        self._at_epoch = torch.get_rng_state()

    def due(self) -> bool:
        """Whether it is time for one."""
        return bool(self._minutes) and time.monotonic() - self._saved >= 60 * self._minutes

    def save(self) -> None:
        """Write one beside the last one and then take its place; nothing where there are to be none."""
        if not self._minutes:
            return
        trainer = self._trainer
        place = self._directory / f"{PREFIX}{trainer.state.global_step}"
        with written_whole(place) as folder:
            save_file(_trained(trainer.model), folder / WEIGHTS)
            if (reference := getattr(trainer, "ref_model", None)) is not None:
                save_file(dict(reference.named_parameters()), folder / REFERENCE)
            trainer._save_optimizer_and_scheduler(str(folder))
            trainer._save_rng_state(str(folder))
            torch.save({"cpu": self._at_epoch}, folder / EPOCH)
            trainer.state.save_to_json(str(folder / "trainer_state.json"))
            sizes = {file.name: file.stat().st_size for file in folder.iterdir()}
            (folder / MANIFEST).write_text(json.dumps({"seconds": self.seconds, "sizes": sizes}))
        for other in self._directory.glob(f"{PREFIX}*"):
            if other != place:
                shutil.rmtree(other)
        self._saved = time.monotonic()


def latest_checkpoint(directory: Path) -> Path | None:
    """The last whole checkpoint of a training, or None."""
    whole = [place for place in directory.glob(f"{PREFIX}*") if is_whole(place)]
    return max(whole, key=step_of, default=None)


def step_of(checkpoint: Path) -> int:
    """The optimizer steps that were done when it was written."""
    return int(checkpoint.name.removeprefix(PREFIX))


def is_whole(checkpoint: Path) -> bool:
    """Whether every file of it is there in the size that it was written in."""
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


def _load_weights(model: Any, file: Path) -> None:
    own = dict(model.named_parameters())
    with torch.no_grad():
        for name, value in load_file(file).items():
            own[name].copy_(value)
