"""How much a right answer says, by how common it is."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence

from store import Store
from store.questions import train_answers


def answer_shares(store: Store) -> dict[str, float]:
    """Each accepted answer's share of the train questions, case folded."""
    counts: Counter[str] = Counter()
    questions = train_answers(store)
    for _, answers in questions:
        counts.update({answer.casefold() for answer in answers})
    return {answer: count / len(questions) for answer, count in counts.items()}


def information(answers: Sequence[str], share: Mapping[str, float]) -> float:
    """What being right by chance would have cost: -log of the accepted answers' share, over that of the rarest.

    In (0, 1]. `share` maps each case-folded answer to its share of the train questions. A right "yes" where two
    answers are as common says little of the chain before it; a right colour among eight says much.
    """
    rarest = min(share.values(), default=1.0)
    if rarest >= 1.0 or not answers:
        return 1.0
    common = sum(share.get(answer, rarest) for answer in {answer.casefold() for answer in answers})
    return max(-math.log(min(common, 0.99)) / -math.log(rarest), 0.01)
