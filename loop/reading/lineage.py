"""Policies with what they were made from, and what the gate said of each."""

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
    """Rows of `policy_lineage` by number, all or one, with `other_parent`, `alpha` and `trials`.

    A policy that a shrunk one replaced, or one that was tried in vain, is no round's candidate: `round` and `decision`
    are those of its trial.
    """
    tried = trials_by_policy(store)
    for row in store.stream(LINEAGE, number):
        policy = dict(row)
        trials = [{"round": round_, **asdict(trial)} for round_, trial in tried.get(policy["policy"], [])]
        if trials:
            last = trials[-1]
            policy |= {"round": last["round"], "decision": "accepted" if last["accepted"] else "rejected"}
        yield {**policy, "trials": trials}
