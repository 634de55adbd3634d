"""When a comparison accepts the candidate."""

from loop.evaluation.comparison import Comparison


def accepts(rule: str, level: float, comparison: Comparison) -> bool:
    """`improve`: significantly better. `not_worse`: not significantly worse. `always`: whatever it is."""
    significant = comparison.p_value < level
    if rule == "improve":
        return significant and comparison.gained > comparison.lost
    if rule == "not_worse":
        return not (significant and comparison.lost > comparison.gained)
    return True
