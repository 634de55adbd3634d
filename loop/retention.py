"""Deletes weights that are no longer needed, so that a long run does not fill the disk."""

from loop.config.schema import Config
from loop.context import Context
from loop.evaluation.comparison import gate_split, gate_styles
from loop.training.adapters import base_of
from policies.weights import delete_directory, deleting
from store import Store
from store.evaluations import best_accepted_policy, most_accurate_policy
from store.gate import best_policy
from store.rounds import cold_start_policy, latest_round, mark_deleted, policy_parents, published_policies


def kept_policies(store: Store, config: Config) -> set[int]:
    """The policies whose weights are still needed.

    The best policy, the serving one (while a round is open, its candidate too) and its parents, the cold start's
    (reference of the verifier, start of some recipes), the best on the reported questions, the best accepted one on
    the gate's in each of its styles (the next candidate is compared with it), and every K-th. Of each of these that has
    an adapter also the policy that the adapter belongs to, because the adapter may be trained on.
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
    kept |= {number for number in parents if number % config.retention.keep_every == 0}
    return _with_bases(store, {number for number in kept if number is not None})


def _with_bases(store: Store, kept: set[int]) -> set[int]:
    """These policies, and the policies whose weights their adapters belong to."""
    directories = {row["number"]: store.path.parent / row["path"] for row in published_policies(store)}
    bases = {base_of(directories[number]) for number in kept if number in directories}
    return kept | {base for base in bases if base is not None}


def delete_old_weights(ctx: Context) -> None:
    """Delete the weights of policies that are no longer needed; their rows stay, with the time of deletion.

    The deletion is recorded first: a crash in between leaves a directory that the next call removes, but no listed
    policy without weights. Weights that another process reads are left for the next call.
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
            delete_directory(directory)
