"""Directories of an update's stages, for checkpoints and results; named by a hash of all that decides the outcome."""

import hashlib
import importlib.metadata
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from loop.context import Context, Stage
from policies.learner.base import TrainingResult, TrainingSettings, TrainingStep
from policies.learner.checkpoints import PREFIX, is_whole
from policies.weights import alone_in, delete_directory, write_whole
from store.rounds import cold_start_policy, get_policy

PACKAGES = ("torch", "transformers", "trl", "accelerate", "peft")
TRAINED, RESULT = "trained", "result.json"
FREE = {"checkpoint_minutes"}
"""Keys of `[learner]` that do not change the outcome."""


def stage_directory(
    ctx: Context, start: int, before: Sequence[Path], stage: Stage, settings: TrainingSettings, items: Sequence[Any]
) -> Path:
    """The directory of a stage, for exactly these items, settings, versions and starting weights.

    `before` has the directories of the update's earlier stages, from whose outcome it starts.
    """
    same = replace(settings, checkpoint_minutes=0.0)
    parts = [
        get_policy(ctx.store, start).sha256,
        get_policy(ctx.store, cold_start_policy(ctx.store)).sha256,
        *(directory.name for directory in before),
        ctx.config.learner.model_dump(exclude=FREE),
        stage.settings(ctx.config).model_dump(),
        repr(stage.algorithm(ctx)),
        repr(same),
        {name: importlib.metadata.version(name) for name in PACKAGES},
        repr(list(items)),
    ]
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
    return ctx.run_dir / "training" / f"{stage.name}-{digest[:16]}"


def delete_others(training: Path, own: Sequence[Path], say: Callable[[str], None]) -> None:
    """Delete directories of other updates and half-written ones, and say so.

    A learner process whose controller was killed may live for a moment and write there: it is waited for.
    """
    if not training.is_dir():
        return
    for place in sorted(training.iterdir()):
        if place.is_symlink():
            _delete(place)
            say(f"  deleted {place.name} in {training}: it is a link")
            continue
        with alone_in(place):
            if place not in own:
                _delete(place)
                say(f"  deleted {place.name} in {training}: left by a training of other items, settings or weights")
                continue
            for part in sorted(place.iterdir()):
                if part.suffix == ".tmp" or part.is_symlink() or (part.name.startswith(PREFIX) and not is_whole(part)):
                    _delete(part)
                    say(f"  deleted {part.name} in {place}: half written")


def _delete(place: Path) -> None:
    if place.is_dir():
        delete_directory(place)
    else:
        place.unlink()


def keep_trained(ctx: Context, directory: Path, result: TrainingResult) -> None:
    """Keep a finished stage's model and figures instead of its checkpoints."""
    sha256 = ctx.learner.publish(result.model, directory / TRAINED)
    figures = {
        "sha256": sha256,
        "steps": result.steps,
        "loss": result.loss,
        "seconds": result.seconds,
        "metrics": result.metrics,
        "curve": [asdict(step) for step in result.curve],
        "remarks": result.remarks,
        "adapter": result.adapter is not None,
    }
    write_whole(directory / RESULT, json.dumps(figures))
    for checkpoint in directory.glob(f"{PREFIX}*"):
        delete_directory(checkpoint)


def trained_before(directory: Path) -> TrainingResult | None:
    """The figures of a stage that an earlier session finished, without its model; None if it is not finished."""
    if not (directory / RESULT).exists():
        return None
    figures = json.loads((directory / RESULT).read_text())
    return TrainingResult(
        model=None,
        steps=figures["steps"],
        loss=figures["loss"],
        seconds=figures["seconds"],
        metrics=figures["metrics"],
        curve=tuple(TrainingStep(**step) for step in figures["curve"]),
        remarks=tuple(figures["remarks"]),
        adapter=directory / "adapter" if figures["adapter"] else None,
    )
