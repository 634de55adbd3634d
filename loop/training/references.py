"""Computes log-probabilities of an update's reference before the update's model is loaded."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from loop.context import Context
from policies.learner.items import GrpoItem, PairItem
from policies.verifier import ScoredChain
from store.rounds import cold_start_policy


def pair_references(ctx: Context, items: Sequence[PairItem], start: int | None) -> list[PairItem]:
    """Pairs with the reference's log-probabilities of both sides, as far as they can be known before the first step.

    `start` is the policy that the stage starts from; None if an earlier stage of the update changes it. The stage
    itself computes the rest, by one pass of the model that it starts from. An "ema" reference moves, so nothing is
    computed for it.
    """
    settings = ctx.config.update
    if settings.reference == "ema":
        return list(items)
    cold_start = cold_start_policy(ctx.store) if settings.reference == "cold_start" else None
    known = list(items)
    if ctx.config.learner.reference == "sampler":
        known = _by_sampler(ctx, items, start if cold_start is None else cold_start)
    unknown = [n for n, item in enumerate(known) if item.reference is None]
    if cold_start is None or cold_start == start or not unknown:
        return known
    chains = [ScoredChain(item.prompt, side) for item in known for side in (item.chosen, item.rejected)]
    wanted = [chain for n in unknown for chain in chains[2 * n : 2 * n + 2]]
    sums = [sum(tokens) for tokens in _scores(ctx, cold_start, wanted, settings.mixed_precision, sides=2)]
    for place, n in enumerate(unknown):
        known[n] = replace(known[n], reference=(sums[2 * place], sums[2 * place + 1]))
    return known


def completion_references(ctx: Context, items: Sequence[GrpoItem], start: int | None) -> list[GrpoItem]:
    """GRPO's items with the cold start's log-probabilities, if the recipe uses that reference."""
    settings, cold_start = ctx.config.grpo, cold_start_policy(ctx.store)
    if not settings.beta or settings.reference != "cold_start" or cold_start == start:
        return list(items)
    chains = [ScoredChain(item.prompt, item.completion) for item in items]
    scores = _scores(ctx, cold_start, chains, settings.mixed_precision)
    return [replace(item, reference=tuple(tokens)) for item, tokens in zip(items, scores, strict=True)]


def _scores(
    ctx: Context, policy: int, chains: Sequence[ScoredChain], mixed_precision: str, sides: int = 1
) -> list[list[float]]:
    """Log-probabilities of every token by a policy, which is loaded only for that."""
    with ctx.reporter.bar(f"scoring by policy {policy}, the reference", len(chains), "chain") as bar:

        def progress(done: int) -> None:
            bar.update(done)
            ctx.check_stop()

        found = ctx.learner.token_logprobs(ctx.load_policy(policy), chains, progress, mixed_precision, sides)
    ctx.learner.free_memory()
    return found


def _by_sampler(ctx: Context, items: Sequence[PairItem], reference: int | None) -> list[PairItem]:
    """Pairs with the sampler's log-probabilities, if the reference policy itself sampled them.

    In float32 they are within 5e-5 nats per chain of the learner's; in bfloat16 up to 0.3 nats, which is more than the
    change by a small update. Reports for how many pairs the learner computes the reference, and why.
    """
    config, why = ctx.config, ""
    if config.policy.dtype != "float32":
        why = f"the sampler computes in {config.policy.dtype}"
    elif config.learner.dtype != "float32" or config.update.mixed_precision != "no":
        why = "the learner computes in bfloat16"
    elif reference is None:
        why = "DPO starts after another stage of this update"
    if why:
        ctx.reporter.say(f"  learner.reference = 'sampler' does not hold, since {why}: the learner computes it")
        return list(items)
    known, left = list[PairItem](), Counter[str]()
    for item in items:
        if item.sampled is None:
            left["not sampled by one policy as they are"] += 1
        elif item.sampled_by != reference:
            left[f"sampled by another policy than {reference}"] += 1
        else:
            item = replace(item, reference=item.sampled)
        known.append(item)
    if left:
        parts = ", ".join(f"{count} {reason}" for reason, count in sorted(left.items()))
        ctx.reporter.say(f"  reference of {left.total()} of {len(items)} pairs by the learner: {parts}")
    return known
