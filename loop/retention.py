"""Which weights stay on disk: a run that goes on for months must not fill it."""

import shutil

from loop.config.schema import Config
from loop.context import Context
from loop.evaluation.comparison import gate_split, gate_styles
from policies.weights import deleting
from store import Store
from store.evaluations import best_accepted_policy, most_accurate_policy
from store.gate import best_policy
from store.rounds import cold_start_policy, latest_round, mark_deleted, policy_parents, published_policies


def kept_policies(store: Store, config: Config) -> set[int]:
    """What is still needed.

    The best policy, the serving one (while a round is open, its candidate too) and its parents, the cold start's
    (reference of the verifier, start of some recipes), the best on the reported questions, the best accepted one on
    the gate's in each of its styles (the next candidate is compared with it), and every K-th.
    """
    state = latest_round(store)
    if state is None:
        return set()
    serving = {"accepted": {state.candidate_policy}, None: {state.serving_policy, state.candidate_policy}}.get(
        state.decision, {state.serving_policy}
    )
    parents = policy_parents(store)
    split = config.evaluation.split
    best = {best_policy(store), most_accurate_policy(store, split, config.sampling.style)} | {
        best_accepted_policy(store, state.number + 1, gate_split(store, split), style) for style in gate_styles(config)
    }
    parents_of_serving = {parent for number in serving if number is not None for parent in parents.get(number, ())}
    kept = serving | parents_of_serving | best | {cold_start_policy(store)}
    return {number for number in kept if number is not None} | {
        number for number in parents if number % config.retention.keep_every == 0
    }


def delete_old_weights(ctx: Context) -> None:
    """Delete the weights of policies that nobody needs; their rows stay, with the time of deletion.

    The deletion is recorded first: a crash in between leaves a directory that the next call removes, never
    a policy that is thought to be there. One that another process reads is left for the next call.
    """
    kept = kept_policies(ctx.store, ctx.config)
    for row in published_policies(ctx.store):
        directory = ctx.policy_directory(row["path"])
        if row["number"] in kept or not directory.is_dir():
            continue
        with deleting(directory) as free:
            if not free:
                continue
            if row["deleted"] is None:
                mark_deleted(ctx.store, row["number"])
            shutil.rmtree(directory)
