"""Which weights stay on disk: a run that goes on for months must not fill it."""

import shutil

from loop.context import Context
from policies.weights import deleting
from store import Store
from store.rounds import latest_round, mark_deleted

BEST = """
SELECT policy FROM evaluation WHERE style = ? GROUP BY policy
ORDER BY avg(outcome = 'correct') DESC, policy LIMIT 1"""

PUBLISHED = "SELECT number, parent, path, deleted FROM policy WHERE made_by != 'base' ORDER BY number"


def kept_policies(store: Store, style: str, keep_every: int) -> set[int]:
    """The serving policy (while a round is open, its candidate too), its parent, the best held-out one, every K-th."""
    state = latest_round(store)
    if state is None:
        return set()
    serving = {"accepted": {state.candidate}, None: {state.serving, state.candidate}}.get(
        state.decision, {state.serving}
    )
    parents = {row["number"]: row["parent"] for row in store.rows("SELECT number, parent FROM policy")}
    kept = serving | {parents.get(number) for number in serving} | {store.value(BEST, style)}
    return {number for number in kept if number is not None} | {n for n in parents if n % keep_every == 0}


def delete_old_weights(ctx: Context) -> None:
    """Delete the weights of policies that nobody needs; their rows stay, with the time of deletion.

    The deletion is recorded first: a crash in between leaves a directory that the next call removes, never
    a policy that is thought to be there. One that another process reads is left for the next call.
    """
    kept = kept_policies(ctx.store, ctx.config.sampling.style, ctx.config.retention.keep_every)
    for row in ctx.store.rows(PUBLISHED):
        directory = ctx.policy_directory(row["path"])
        if row["number"] in kept or not directory.is_dir():
            continue
        with deleting(directory) as free:
            if not free:
                continue
            if row["deleted"] is None:
                mark_deleted(ctx.store, row["number"])
            shutil.rmtree(directory)
