"""What is right: answer extraction and matching. Pure functions, no I/O, no model.

A judge is one file with one rule; `JUDGES` below is the one place that registers it.
"""

from judges.exact import matches as exact
from judges.extraction import extract_answer
from judges.verdict import OUTCOMES, Judge, Outcome, Rule, Verdict, give_verdict

JUDGES: dict[str, Judge] = {
    "exact": Judge(name="exact", version="1", rule=exact),
}
"""Every judge by the name that questions and configuration use."""

__all__ = ["JUDGES", "OUTCOMES", "Judge", "Outcome", "Rule", "Verdict", "extract_answer", "give_verdict"]
