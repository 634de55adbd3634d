"""Publishes trained and shrunk models as policies on disk, with the probe that proves later swaps."""

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from loop.context import Context
from loop.swap_and_prove import first_probe_questions, probe_items
from policies.learner.callbacks import TrainingDiverged
from policies.weights import delete_directory
from store.rounds import Policy, add_policy, next_policy_number, policy_path, shrunk_policy

SHRUNK = "shrunk"
"""The value of `policy.made_by` for a policy between two others."""


def publish_policy(
    ctx: Context, model: Any, parent: int, made_by: str, adapters: Mapping[str, Path] | None = None
) -> Policy:
    """Write the next policy's weights, whole or not at all, adapters beside them; the caller records it.

    A crash before it is recorded leaves a directory that the next call replaces. Raises TrainingDiverged if the
    weights give log-probabilities that are not numbers.
    """
    number = next_policy_number(ctx.store)
    path = policy_path(number)
    questions = first_probe_questions(ctx)
    logprobs = [sum(each) for each in ctx.learner.token_logprobs(model, probe_items(ctx, questions))]
    if not all(map(math.isfinite, logprobs)):
        raise TrainingDiverged("training diverged: what was trained gives log-probabilities that are not numbers")
    digest = ctx.learner.publish(model, ctx.run_dir / path, adapters)
    return Policy(number, parent, made_by, digest, path, {"questions": questions, "logprobs": logprobs})


def discard(ctx: Context, policy: Policy) -> None:
    """Delete the weights of a policy that was published and not recorded."""
    delete_directory(ctx.run_dir / policy.path)


def shrink(ctx: Context, start: int, end: int, alpha: float) -> int:
    """The policy whose weights lie `alpha` of the way from one policy to another (WiSE-FT, arXiv 2109.01903).

    It is made only once. Returns its number.
    """
    made = shrunk_policy(ctx.store, start, end, alpha)
    if made is not None:
        return made
    model = ctx.learner.interpolate(ctx.load_policy(start), ctx.load_policy(end), alpha)
    policy = publish_policy(ctx, model, start, SHRUNK)
    del model
    ctx.learner.free_memory()
    with ctx.store.transaction():
        add_policy(ctx.store, replace(policy, other_parent=end, alpha=alpha))
    ctx.reporter.say(f"  policy {policy.number}: {alpha:g} of the way from policy {start} to policy {end}")
    return policy.number
