"""The information of a right answer, by its frequency."""

import math
from collections import Counter
from collections.abc import Sequence

from store import Store
from store.questions import train_answer_counts


class AnswerShares(dict[str, float]):
    """Case-folded answer -> its share of the train questions."""

    def __init__(self, shares: dict[str, float]) -> None:
        super().__init__(shares)
        self.rarest = min(shares.values(), default=1.0)
        """The smallest share, computed once: there may be a million."""


def answer_shares(store: Store) -> AnswerShares:
    """Each accepted answer's share of the train questions, case folded."""
    counts: Counter[str] = Counter()
    questions = 0
    for answers, count in train_answer_counts(store):
        questions += count
        for answer in {answer.casefold() for answer in answers}:
            counts[answer] += count
    return AnswerShares({answer: count / questions for answer, count in counts.items()})


def information(answers: Sequence[str], share: AnswerShares) -> float:
    """The information of a right answer: -log of the accepted answers' share, divided by that of the rarest.

    In (0, 1]. A right "yes" is often luck, so it says little about its chain; a right colour among eight says
    much.
    """
    if share.rarest >= 1.0 or not answers:
        return 1.0
    common = sum(share.get(answer, share.rarest) for answer in {answer.casefold() for answer in answers})
    return max(-math.log(min(common, 0.99)) / -math.log(share.rarest), 0.01)
