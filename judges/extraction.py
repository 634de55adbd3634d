"""Extraction: reads the final answer from an output. The rules beside it compare answers.

Five kinds of marker, as models write them:

| name     | marker                                | the answer is                                |
| -------- | ------------------------------------- | -------------------------------------------- |
| `hash`   | `### Answer:` (LLaVA-Reasoner, arXiv 2410.16198) | the first line after it that is not empty |
| `answer` | `Answer:` with or without hashes, bold | the same                                    |
| `tag`    | `<answer>...</answer>` (DeepSeek-R1, arXiv 2501.12948) | the text between the tags, or to the end |
| `boxed`  | `\\boxed{...}` (MATH, arXiv 2103.03874) | the text in the braces, nested ones whole |
| `is`     | `the answer is`                       | the rest of the sentence                     |

All functions here take time linear in the length of the text.
"""

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple

DEFAULT_MARKERS = ("answer|tag|boxed", "is")
"""Entries are tried in order; within an entry, the marker that comes last wins."""

END_OF_TURN = ("<end_of_utterance>", "<|im_end|>", "<|eot_id|>", "</s>", "<|endoftext|>", "</answer>")
COLON_LINE = re.compile(r"\*{0,2}[ \t]*[:：][ \t]*\*{0,2}\s*([^\n]*)")
IS_LINE = re.compile(r"\s{1,8}(?i:is)\b(?!')[ \t]*[:：]?[ \t]*\*{0,2}\s*([^\n]*)")
OPEN_BRACE = re.compile(r"\s{0,4}\{")
BRACE = re.compile(r"[{}\\]")
SENTENCE_END = re.compile(r"(?<!\bMr)(?<!\bMrs)(?<!\bDr)(?<!\bSt)(?<!\bvs)[.!?;](?=\s)")
DECORATION = "*`\"'“”‘’ \t\r\n"
FINAL_PUNCTUATION = (".", ",", ";", ":", "!")
OPEN_TAG, CLOSE_TAG, BOXED = "<answer>", "</answer>", "\\boxed"


class Found(NamedTuple):
    """A marker: its start, the end of the marked text, and the marked text as written."""

    start: int
    end: int
    answer: str


def extract_answer(
    text: str, *, needs_marker: bool, markers: Sequence[str] = DEFAULT_MARKERS, as_written: bool = False
) -> str | None:
    """The answer after the last marker; None if there is no marker or nothing after it.

    Without any marker: None if one is needed, else the whole text if it is a single line. End-of-turn
    tokens and white space around are stripped always; markdown, quotes and one final full stop,
    comma, colon, semicolon or exclamation mark unless `as_written`, which rules named after a
    benchmark ask for and which lets a bare answer have several lines.
    """
    text = without_end_of_turn(text)
    return answer_of(text, last_marked(text, tuple(markers)), needs_marker=needs_marker, as_written=as_written)


def answer_of(text: str, found: Found | None, *, needs_marker: bool, as_written: bool) -> str | None:
    """`extract_answer` for a marker that was already looked for."""
    if found is not None:
        answer = found.answer
    elif needs_marker or ("\n" in text and not as_written):
        return None
    else:
        answer = text
    return (answer if as_written else undecorated(answer)).strip() or None


def last_marked(text: str, markers: tuple[str, ...] = DEFAULT_MARKERS) -> Found | None:
    """Position and content of the deciding marker; only white space and tags are stripped."""
    lowered = _lowered(text)
    for finders in _finders(markers):
        best: Found | None = None
        for find in finders:
            found = find(text, lowered)
            if found is not None and (best is None or found.start > best.start):
                best = found
        if best is not None:
            return best
    return None


def without_end_of_turn(text: str) -> str:
    """The text without white space and end-of-turn tokens at its end."""
    text = text.strip()
    end = len(text)
    while text.endswith(END_OF_TURN, 0, end):
        end -= next(len(token) for token in END_OF_TURN if text.endswith(token, 0, end))
        while end and text[end - 1].isspace():
            end -= 1
    return text[:end]


def undecorated(answer: str) -> str:
    """The text without markdown, quotes and one final punctuation mark; an ellipsis stays."""
    answer = answer.strip(DECORATION)
    if answer.endswith(FINAL_PUNCTUATION) and answer[-2:-1] != answer[-1]:
        answer = answer[:-1]
    return answer.strip(DECORATION)


def check_markers(markers: Sequence[str]) -> None:
    """Raises ValueError for a kind of marker that does not exist."""
    _finders(tuple(markers))


def _lowered(text: str) -> str:
    """Lower case of the same length (the capital U+0130 would become two characters)."""
    lowered = text.lower()
    return lowered if len(lowered) == len(text) else text.replace("\u0130", "i").lower()


def _last_word(lowered: str, end: int) -> int:
    """Start of the last `answer` before `end` that no letter or digit precedes; -1 if there is none."""
    at = lowered.rfind("answer", 0, end)
    while at > 0 and (lowered[at - 1].isalnum() or lowered[at - 1] == "_"):
        at = lowered.rfind("answer", 0, at)
    return at


def _find_answer(text: str, lowered: str, *, hashed: bool = False) -> Found | None:
    at = _last_word(lowered, len(lowered))
    while at >= 0:
        line = COLON_LINE.match(text, at + 6)
        if line and (not hashed or text[max(0, at - 12) : at].rstrip(" \t*").endswith("#")):
            return Found(at, line.end(), line[1])
        at = _last_word(lowered, at)
    return None


def _find_hash(text: str, lowered: str) -> Found | None:
    return _find_answer(text, lowered, hashed=True)


def _find_is(text: str, lowered: str) -> Found | None:
    at = _last_word(lowered, len(lowered))
    while at >= 0:
        line = IS_LINE.match(text, at + 6)
        if line:
            stop = SENTENCE_END.search(line[1])
            if stop is None:
                return Found(at, line.end(), line[1])
            return Found(at, line.start(1) + stop.end(), line[1][: stop.start()])
        at = _last_word(lowered, at)
    return None


def _find_tag(text: str, lowered: str) -> Found | None:
    at = lowered.rfind(OPEN_TAG)
    if at < 0:
        return None
    start = at + len(OPEN_TAG)
    end = lowered.find(CLOSE_TAG, start)
    return Found(at, len(text), text[start:]) if end < 0 else Found(at, end + len(CLOSE_TAG), text[start:end])


def _find_boxed(text: str, lowered: str) -> Found | None:
    """The last box; braces that are never closed mark an empty answer."""
    at = text.rfind(BOXED)
    while at >= 0:
        opened = OPEN_BRACE.match(text, at + len(BOXED))
        if opened:
            end = _closing_brace(text, opened.end() - 1)
            return Found(at, len(text), "") if end is None else Found(at, end + 1, text[opened.end() : end])
        at = text.rfind(BOXED, 0, at)
    return None


def _closing_brace(text: str, opened: int) -> int | None:
    depth, position = 0, opened
    while brace := BRACE.search(text, position):
        position = brace.end()
        if brace[0] == "\\":
            position += 1  # an escaped brace is text
        elif brace[0] == "{":
            depth += 1
        else:
            depth -= 1
            if depth == 0:
                return brace.start()
    return None


MARKERS: dict[str, Callable[[str, str], Found | None]] = {
    "hash": _find_hash,
    "answer": _find_answer,
    "tag": _find_tag,
    "boxed": _find_boxed,
    "is": _find_is,
}


@lru_cache(maxsize=64)
def _finders(markers: tuple[str, ...]) -> tuple[tuple[Callable[[str, str], Found | None], ...], ...]:
    for name in (name for entry in markers for name in entry.split("|")):
        if name not in MARKERS:
            raise ValueError(f"marker {name!r} is unknown; known: {', '.join(MARKERS)}")
    return tuple(tuple(MARKERS[name] for name in entry.split("|")) for entry in markers)
