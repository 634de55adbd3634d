"""The probe: do sampler and learner give the same log-probabilities to the same chains?"""

import math
from collections.abc import Sequence

from policies import PolicyError
from policies.verifier import ScoredChain


def largest_difference(learner: Sequence[float], sampler: Sequence[float], items: Sequence[ScoredChain]) -> float:
    """Largest difference in log-probability per token, in nats; nan if any is no number."""
    if not len(learner) == len(sampler) == len(items):
        raise PolicyError(f"the probe has {len(items)} items, the store {len(learner)}: the probe changed")
    pairs = zip(learner, sampler, items, strict=True)
    differences = [abs(a - b) / len(item.completion) for a, b, item in pairs]
    return math.nan if any(map(math.isnan, differences)) else max(differences)
