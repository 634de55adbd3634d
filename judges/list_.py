"""`list`: the same items in any order."""

import re
from collections.abc import Sequence

from judges.exact import fold
from judges.memo import remember_short

SEPARATOR = re.compile(r"[;\n|•&]|,(?!\d{3}(?!\d))|(?<!\d),|\band\b", re.IGNORECASE)


def list_(answer: str, accepted: Sequence[str]) -> float:
    """Shared items / all items (Jaccard 1912), the best over the accepted lists; 1.0 is the same set.

    Items stand between commas, semicolons, bars, line ends, `and` or `&` (a comma in a number such as
    `1,000` separates nothing), are folded as `exact` folds them, and count once.
    """
    ours = items(answer)
    return max((_jaccard(ours, items(each)) for each in accepted), default=0.0)


@remember_short
def items(text: str) -> frozenset[str]:
    """The folded items of a list."""
    pieces = set(SEPARATOR.split(text.strip("[]{}() \t\n")))
    found = frozenset(fold(each) for each in pieces if each.strip())
    return found - {""} or frozenset([fold(text)])


def _jaccard(left: frozenset[str], right: frozenset[str]) -> float:
    return len(left & right) / len(left | right)
