"""Judges: answer extraction and matching. Pure functions, no I/O, no model.

A rule is one file, registered in `judges.rules.RULES`. `find_judge("numeric(relative = 0.01)")` returns a judge;
`give_verdict` and `give_verdicts` apply it. (Only `math` uses separate processes, because some inputs make it hang.)
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
