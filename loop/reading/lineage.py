"""Policies with their parents and their trials at the gate."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from store import Store
from store.gate import trials_by_policy

LINEAGE = """
SELECT policy_lineage.*, policy.other_parent, policy.alpha
FROM policy_lineage JOIN policy ON policy.number = policy_lineage.policy
WHERE ?1 IS NULL OR policy_lineage.policy = ?1 ORDER BY policy_lineage.policy"""


def policy_records(store: Store, number: int | None = None) -> Iterator[dict[str, Any]]:
    """Rows of `policy_lineage` by number (all, or one), with `other_parent`, `alpha` and `trials`.

    A policy that was rejected, or that a shrunk one replaced, may not be its round's candidate. Its `round` and
    `decision` are then those of its trial.
    """
    tried = trials_by_policy(store)
    for row in store.stream(LINEAGE, number):
        policy = dict(row)
        trials = [{"round": round_, **asdict(trial)} for round_, trial in tried.get(policy["policy"], [])]
        if trials:
            last = trials[-1]
            policy |= {"round": last["round"], "decision": "accepted" if last["accepted"] else "rejected"}
        yield {**policy, "trials": trials}
