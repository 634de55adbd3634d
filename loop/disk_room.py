"""Checks the free disk before each phase, so that a run stops between phases and not in the middle of a write."""

import shutil
from collections.abc import Callable
from pathlib import Path

from loop.context import Context
from loop.errors import LoopError
from loop.evaluation.reported_styles import reported_styles
from store.rounds import Round, get_policy
from store.samples import mean_sample_bytes

FreeBytes = Callable[[Path], int]
"""Directory -> bytes that may still be written."""

SLACK = 32 << 20
"""The store's write-ahead log (16 MiB), run.log, a policy's small files."""

ROW_BYTES = 200
"""Bytes of a sample or answer beyond its text, with verdict and indices (measured: `benchmarks/store.py`)."""

TOKEN_BYTES = 6
"""Bytes per token of text and its id, before any chain is written."""

FLOAT32_FROM_HALF = 2
"""Published weights are float32; those of the base model may be half as large."""


def free_bytes(directory: Path) -> int:
    """The free bytes of a directory's file system."""
    return shutil.disk_usage(directory).free


def require_room(ctx: Context, round_: Round, free: FreeBytes) -> None:
    """Raise LoopError if the disk has fewer free bytes than the round's phase will write."""
    needed, there = needed_bytes(ctx, round_), free(ctx.run_dir)
    if there < needed:
        raise LoopError(
            f"round {round_.number}: {round_.phase} writes about {_megabytes(needed)}, and the disk of {ctx.run_dir}"
            f" has {_megabytes(there)} free; free some space and run again, everything so far is kept"
        )


def needed_bytes(ctx: Context, round_: Round) -> int:
    """About the bytes that the whole phase writes; what it has already written is not subtracted."""
    config = ctx.config
    rows, longest = 0, 0
    if round_.phase == "sample":
        asked = config.questions_of(round_.number)
        rows, longest = asked * config.samples_of(round_.number), config.sampling.max_tokens
    elif round_.phase == "evaluate":
        split = "SELECT count(*) FROM question WHERE split = ? AND unusable IS NULL"
        questions = min(ctx.store.value(split, config.evaluation.split), config.evaluation.limit or 2**63)
        rows, longest = questions * len(reported_styles(ctx.store)), config.evaluation.max_tokens
    elif round_.phase == "distil":
        rows, longest = config.cold_start.rationales, config.teacher.max_tokens
    text = mean_sample_bytes(ctx.store) or TOKEN_BYTES * longest
    policies = {"update": 1, "gate": len(config.gate.shrink)}.get(round_.phase, 0)
    return SLACK + round(rows * (ROW_BYTES + text)) + policies * _policy_bytes(ctx, round_.serving_policy)


def _policy_bytes(ctx: Context, policy: int) -> int:
    directory = ctx.policy_directory(get_policy(ctx.store, policy).path)
    size = sum(file.stat().st_size for file in directory.glob("*.safetensors"))
    return size if policy else FLOAT32_FROM_HALF * size


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.0f} MB"
