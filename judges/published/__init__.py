"""The rules of published benchmarks, as in lmms-eval 0.7.3: they score the whole output, not an extracted answer.

A rule takes a row of the set (with the set's own columns) and one output. docs/published_benchmarks.md says where
a rule differs from lmms-eval, and why.
"""

from judges.published.rules import RULES, VERSION, Scored, aggregate, read_and_score, score_output

__all__ = ["RULES", "VERSION", "Scored", "aggregate", "read_and_score", "score_output"]
