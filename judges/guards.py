"""Guards: flags for signs that the chain did not earn its answer. They never change an outcome.

| flag | the output |
| --- | --- |
| `long` | has more than 1,000 words |
| `repetitive` | has the 24 characters at three quarters of its length four times or more |
| `answer_only` | gives fewer than three words of reasons before the answer, where reasons were asked for |
| `lists_options` | names more than one option as its answer |
| `contradiction` | has an option's letter and the text of another option in its answer |
| `changed` | has an earlier marker with another answer |
| `goes_on` | has three or more words after its answer |
| `sums_contradict` | gives one candidate the higher sum and its verdict to the other (judge `preference`) |
| `sums_equal` | gives both candidates the same sum, so that the scores do not decide (judge `preference`) |
| `sums_wrong` | gives a candidate points that do not add up to its sum (judge `preference`) |
"""

from collections.abc import Sequence

from judges.choice import contradicts, options_named
from judges.exact import fold
from judges.extraction import Found, last_marked, undecorated

FLAGS = (
    *("long", "repetitive", "answer_only", "lists_options", "contradiction", "changed", "goes_on"),
    *("sums_contradict", "sums_equal", "sums_wrong"),
)
LONG_WORDS = 1000
REASON_WORDS = 3
PIECE, TIMES = 24, 4


def guard_flags(
    text: str, found: Found | None, extracted: str | None, *, needs_marker: bool, choices: Sequence[str] = ()
) -> tuple[str, ...]:
    """The flags of one output, in the order of `FLAGS`; `found` is the marker that decided."""
    flags = []
    if len(text) > 2 * LONG_WORDS and len(text.split()) > LONG_WORDS:
        flags.append("long")
    if repetitive(text):
        flags.append("repetitive")
    if found is None or not extracted:
        return tuple(flags)
    if needs_marker and found.start < 100 and len(text[: found.start].strip("# *\n").split()) < REASON_WORDS:
        flags.append("answer_only")
    if choices:
        choices = tuple(choices)
        if contradicts(extracted, choices):
            flags.append("contradiction")
        elif options_named(extracted, choices) > 1:
            flags.append("lists_options")
    if changed(text, found):
        flags.append("changed")
    if found.end < len(text) and len(text[found.end : found.end + 200].split()) >= REASON_WORDS:
        flags.append("goes_on")
    return tuple(flags)


def repetitive(text: str) -> bool:
    """Whether the 24 characters at three quarters of the text occur in it four times or more.

    A sample that has begun to repeat itself rarely stops.
    """
    start = 3 * len(text) // 4
    piece = text[start : start + PIECE]
    return len(piece) == PIECE and text.count(piece) >= TIMES and not piece.isspace()


def changed(text: str, found: Found) -> bool:
    """Whether the marker before `found` gives another answer; one on the same line leads up to it."""
    before = text[: found.start]
    if "nswer" not in before and "NSWER" not in before and "\\boxed" not in before:
        return False
    earlier = last_marked(before)
    if earlier is None or earlier.end >= len(before):
        return False
    answer = fold(undecorated(earlier.answer))
    return bool(answer) and answer != fold(undecorated(found.answer))
