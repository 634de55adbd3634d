"""`textvqa`: VQA accuracy as lmms-eval scores TextVQA, OK-VQA and A-OKVQA's direct answers."""

from collections.abc import Sequence
from functools import lru_cache

from judges.vqa import agreement, normalise


def textvqa(answer: str, accepted: Sequence[str]) -> float:
    """As `vqa`, but every annotator's answer is always fully normalised."""
    return agreement(normalise(answer), _annotators(tuple(accepted)))


@lru_cache(maxsize=4096)
def _annotators(accepted: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(map(normalise, accepted))
