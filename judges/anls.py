"""`anls`: average normalised Levenshtein similarity (Biten et al. 2019, arXiv 1905.13648), as lmms-eval computes it.

The rule of DocVQA and InfographicVQA.
"""

from collections.abc import Sequence

from rapidfuzz.distance import Levenshtein

from judges.memo import remember_short


def anls(answer: str, accepted: Sequence[str], *, threshold: float = 0.5) -> float:
    """The best of 1 - distance / length over the accepted answers; below `threshold` it is 0.

    Exactly as published: the distance is between lower-cased texts with single spaces, the length is that
    of the longer text as written (upper-cased, so "ß" counts two); two empty texts are equal.
    """
    ours, our_length = _prepared(answer)
    best = 1.0
    for each in accepted:
        theirs, their_length = _prepared(each)
        length = max(our_length, their_length)
        # A larger distance scores 0 anyway, so rapidfuzz may stop there.
        limit = int((1.0 - threshold) * length) + 1
        distance = Levenshtein.distance(ours, theirs, score_cutoff=limit)
        best = min(best, 0.0 if length == 0 else distance / length)
    score = 1.0 - best
    return 0.0 if score < threshold else score


@remember_short
def _prepared(text: str) -> tuple[str, int]:
    return " ".join(text.lower().split()), len(text.upper())
