"""`textvqa`: VQA accuracy as lmms-eval scores TextVQA, OK-VQA and A-OKVQA's direct answers."""

from collections.abc import Sequence

from judges.vqa import agreement, normalise


def textvqa(answer: str, accepted: Sequence[str]) -> float:
    """As `vqa`, but every annotator's answer goes through the whole normalisation, always."""
    return agreement(normalise(answer), [normalise(each) for each in accepted])
