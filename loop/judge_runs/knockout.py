"""Choosing one of several chains by a judge that compares two: a knockout, for many questions at once."""

from collections.abc import Callable, Sequence

Compare = Callable[[Sequence[tuple[int, str, str]]], list[float]]
"""(place of a question, first text, second text) for each match -> the first text's share of the verdicts."""


def knockout(candidates: Sequence[Sequence[str]], compare: Compare) -> list[str | None]:
    """For each question the candidate that wins every match it plays; None where there is no candidate.

    Neighbours meet, the winners meet again, and an odd one out goes on without a match. The first of two goes on where
    the judge prefers neither. Equal texts are one candidate.
    """
    left = [list(dict.fromkeys(texts)) for texts in candidates]
    while any(len(texts) > 1 for texts in left):
        matches = [
            (place, first, second)
            for place, texts in enumerate(left)
            for first, second in zip(texts[::2], texts[1::2], strict=False)
        ]
        shares = iter(compare(matches))
        left = [
            [
                *(
                    first if next(shares) >= 0.5 else second
                    for first, second in zip(texts[::2], texts[1::2], strict=False)
                ),
                *texts[len(texts) - len(texts) % 2 :],
            ]
            for texts in left
        ]
    return [texts[0] if texts else None for texts in left]
