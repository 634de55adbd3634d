"""Win rates: how often each of a question's chains is preferred to the others (Pref-GRPO, arXiv 2508.20751)."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import combinations

from loop.context import Context
from loop.judge_runs.ask import Match, shares_of_first
from loop.judge_runs.judge_run import JudgeRun
from store.questions import Question


def win_rates(
    ctx: Context, judge: JudgeRun, questions: Mapping[int, Question], texts: Mapping[int, Sequence[str]], what: str
) -> dict[int, dict[str, float]]:
    """For each question its distinct texts with their mean share of the verdicts against all others, in [0, 1].

    A question with one text has no rates.
    """
    matches = [
        Match(questions[number], first, second)
        for number, all_texts in texts.items()
        for first, second in combinations(dict.fromkeys(all_texts), 2)
    ]
    shares = defaultdict[int, dict[str, list[float]]](lambda: defaultdict(list))
    for match, share in zip(matches, shares_of_first(ctx, judge, matches, what), strict=True):
        shares[match.question.id][match.first].append(share)
        shares[match.question.id][match.second].append(1.0 - share)
    return {number: {text: sum(found) / len(found) for text, found in own.items()} for number, own in shares.items()}
