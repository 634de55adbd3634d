"""`chartqa`: relaxed accuracy (Masry et al. 2022, arXiv 2203.10244, section 5.1), as lmms-eval computes it."""

from collections.abc import Sequence


def chartqa(answer: str, accepted: Sequence[str], *, tolerance: float = 0.05) -> float:
    """1.0 if within 5% of an accepted number, or equal except for case.

    Exactly as published: a number is what Python's `float` reads (full-width digits, `1_000`, `1e3` and
    `nan` too, `1,000` and `$5` not); a final `%` divides by 100; the relative error is computed in
    binary floating point. If either is not a number, or the target is 0, both are lower-cased and
    compared; nothing else is stripped or folded. "50%" is 0.5, and "50" is not.
    """
    return float(any(relaxed(answer.strip(), each.strip(), tolerance) for each in accepted))


def relaxed(answer: str, target: str, tolerance: float = 0.05) -> bool:
    """Whether one answer meets one target, both as they are."""
    number, wanted = _number(answer), _number(target)
    if number is None or not wanted:
        return answer.lower() == target.lower()
    return abs(number - wanted) / abs(wanted) <= tolerance


def _number(text: str) -> float | None:
    try:
        return float(text.rstrip("%")) / 100.0 if text.endswith("%") else float(text)
    except ValueError:
        return None
