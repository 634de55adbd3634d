"""Guards: signs that a right answer was not earned. They never change an outcome; they are flags beside it.

| flag | the output |
| --- | --- |
| `long` | has more than 1,000 words |
| `repetitive` | has the 24 characters at its middle, or at three quarters, four times or more |
| `answer_only` | gives fewer than three words of reasons before the answer, where reasons were asked for |
| `lists_options` | names more than one option as its answer |
| `contradiction` | has an option's letter and the text of another option in its answer |
| `changed` | has an earlier marker with another answer |
| `goes_on` | has three or more words after its answer |
"""

from collections.abc import Sequence

from judges.choice import contradicts, options_named
from judges.exact import fold
from judges.extraction import Found, last_marked, undecorated

FLAGS = ("long", "repetitive", "answer_only", "lists_options", "contradiction", "changed", "goes_on")
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
    """Whether the 24 characters at the middle, or at three quarters, stand in the text four times or more."""
    size = len(text)
    for start in (size // 2, 3 * size // 4) if size > TIMES * PIECE else ():
        piece = text[start : start + PIECE]
        if not piece.isspace() and text.count(piece) >= TIMES:
            return True
    return False


def changed(text: str, found: Found) -> bool:
    """Whether the marker before `found` gives another answer; one on the same line leads up to it."""
    end = found.start
    if text.find("nswer", 0, end) < 0 and text.find("NSWER", 0, end) < 0 and text.find("\\boxed", 0, end) < 0:
        return False
    before = text[: found.start]
    earlier = last_marked(before)
    if earlier is None or earlier.end >= len(before):
        return False
    answer = fold(undecorated(earlier.answer))
    return bool(answer) and answer != fold(undecorated(found.answer))
