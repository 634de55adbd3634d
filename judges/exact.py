"""`exact`: equality with any accepted answer after folding case, articles and punctuation."""

import re
import unicodedata
from collections.abc import Sequence

ARTICLES = re.compile(r"\b(?:a|an|the)\b")
EDGES = re.compile(r"^[\s.,;:!?\"'()\[\]]+|[\s.,;:!?\"'()\[\]]+$")


def matches(answer: str, accepted: Sequence[str]) -> float:
    """1.0 if the folded answer equals a folded accepted answer, else 0.0."""
    folded = fold(answer)
    return float(any(folded == fold(each) for each in accepted))


def fold(text: str) -> str:
    """Unicode NFKC, case folded, punctuation cut at both ends, English articles dropped.

    A text of nothing but articles or punctuation is kept as it is, so that "A" can be an answer.
    """
    lowered = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
    bare = " ".join(ARTICLES.sub(" ", EDGES.sub("", lowered)).split())
    return bare or lowered
