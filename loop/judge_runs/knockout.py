"""Chooses one of several chains by a judge that compares two: a knockout, for many questions at once."""

from collections.abc import Callable, Sequence

Compare = Callable[[Sequence[tuple[int, str, str]]], list[float]]
"""(index of a question, first text, second text) for each match -> the first text's share of the verdicts."""


def knockout(candidates: Sequence[Sequence[str]], compare: Compare) -> list[str | None]:
    """For each question the candidate that wins all its matches; None without candidates.

    Neighbours are compared, then the winners; an odd one out advances without a match. If the judge prefers neither,
    the first one wins. Equal texts are one candidate.
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
