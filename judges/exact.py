"""`exact`: equality with any accepted answer after folding case, articles and punctuation."""

import re
import unicodedata
from collections.abc import Sequence

from judges.memo import remember_short

ARTICLES = re.compile(r"\b(?:a|an|the)\b")
EDGES = " .,;:!?\"'()[]"

SYNONYMS = {
    **dict.fromkeys(("yes", "y", "yeah", "yep", "yup", "true", "correct", "right", "affirmative"), "yes"),
    **dict.fromkeys(("no", "n", "nope", "nah", "false", "incorrect", "negative"), "no"),
}


def exact(answer: str, accepted: Sequence[str], *, synonyms: bool = False) -> float:
    """1.0 if the folded answer equals a folded accepted answer, else 0.0.

    With `synonyms`, ways to say yes and no count as `yes` and `no` ("Yep" is "yes", "false" is "no").
    """
    folded = fold(answer)
    for each in accepted:
        key = fold(each)
        if folded == key or (synonyms and SYNONYMS.get(folded, folded) == SYNONYMS.get(key, key)):
            return 1.0
    return 0.0


@remember_short
def fold(text: str) -> str:
    """Unicode NFKC, case folded, punctuation cut at both ends, English articles dropped.

    A text of nothing but articles or punctuation is kept as it is, so that "A" can be an answer.
    """
    lowered = text.lower() if text.isascii() else unicodedata.normalize("NFKC", text).casefold()
    if lowered.isalnum():
        return lowered
    lowered = " ".join(lowered.split())
    bare = lowered.strip(EDGES)
    return " ".join(ARTICLES.sub(" ", bare).split()) or bare or lowered
