"""Adapters that are trained over several rounds: the weights that each belongs to, and the first model of an update."""

import json
from pathlib import Path
from typing import Any

from loop.config.learner import TrainingConfig
from loop.context import Context, Stage
from policies.weights import write_whole
from store.rounds import get_policy

ADAPTER, BASE = "adapter", "base_policy.json"
"""Where a policy keeps its adapter, and the file in it that says what it is for."""


def base_of(directory: Path, stage: str | None = None) -> int | None:
    """The policy whose weights a published policy's adapter is for; None without one (of this stage)."""
    try:
        known = json.loads((directory / ADAPTER / BASE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return int(known["policy"]) if stage in (None, known["stage"]) else None


def adapter_base(ctx: Context, stage: Stage, table: TrainingConfig, start: int) -> int | None:
    """The policy under the adapter that a stage trains: an earlier one's where the adapter goes on.

    None where it trains no adapter. A policy without one, as a cold start of all weights or a shrunk policy is, gets a
    new adapter.
    """
    if not table.lora_rank:
        return None
    base = _continued(ctx, stage, start) if table.lora_continue else None
    return start if base is None else base


def first_model(ctx: Context, stage: Stage, table: TrainingConfig, start: int) -> Any:
    """The model that an update begins with: the start policy's, or the weights under its adapter and the adapter."""
    base = _continued(ctx, stage, start) if table.lora_continue else None
    if base is None:
        return ctx.load_policy(start)
    ctx.reporter.say(f"  {stage.name}: goes on with the adapter of policy {start}, for the weights of policy {base}")
    return ctx.learner.with_adapter(ctx.load_policy(base), _directory(ctx, start) / ADAPTER)


def note_base(ctx: Context, adapter: Path, base: int, stage: str) -> None:
    """Write beside an adapter which policy's weights it is for."""
    known = {"policy": base, "sha256": get_policy(ctx.store, base).sha256, "stage": stage}
    write_whole(adapter / BASE, json.dumps(known))


def _continued(ctx: Context, stage: Stage, start: int) -> int | None:
    return base_of(_directory(ctx, start), stage.name)


def _directory(ctx: Context, policy: int) -> Path:
    return ctx.policy_directory(get_policy(ctx.store, policy).path)
