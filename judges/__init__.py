"""What is right: answer extraction and matching. Pure functions, no I/O, no model.

A rule is one file; `judges.rules.RULES` is the one place that registers it. `find_judge("numeric(relative
= 0.01)")` gives a judge, `give_verdict` and `give_verdicts` what it says. (`math` alone hands its work to
processes of its own, because what it does may never end.)
"""

from judges.errors import JudgeError, JudgeSpecError
from judges.extraction import extract_answer
from judges.guards import FLAGS
from judges.rules import RULES, Rule
from judges.spec import Judge, find_judge
from judges.verdict import OUTCOMES, Outcome, Output, Verdict, give_verdict, give_verdicts

__all__ = [
    "FLAGS",
    "OUTCOMES",
    "RULES",
    "Judge",
    "JudgeError",
    "JudgeSpecError",
    "Outcome",
    "Output",
    "Rule",
    "Verdict",
    "extract_answer",
    "find_judge",
    "give_verdict",
    "give_verdicts",
]
