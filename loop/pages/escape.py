"""Makes text of other people safe to show: invisible and reordering characters are shown by name."""

import re
import unicodedata

from markupsafe import Markup, escape

from loop.reading.text import limit_marks

HIDDEN = re.compile(
    "([\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u180e\u200b-\u200f\u2028-\u202e"
    "\u2060-\u206f\ufeff\ufff9-\ufffb\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3"
    "\U0001d173-\U0001d17a\U000e0001\U000e0020-\U000e007f\ud800-\udfff])\\1*"
)
"""Runs of control characters (except tab and newline), Unicode's format characters (Cf), line marks, surrogates."""

NAMES = {"\x1b": "ESC", "\x00": "NUL", "\r": "CR", "\x07": "BEL", "\x08": "BS", "\x7f": "DEL"}


def plain(text: object) -> str:
    """The text with hidden characters written out, for places without markup."""
    return HIDDEN.sub(lambda found: f"[{_name(found[0])}]", _normalised(text))


def visible(text: object) -> Markup:
    """The text as HTML: escaped, with a small label for every hidden character."""
    text = _normalised(text)
    parts, last = [], 0
    for found in HIDDEN.finditer(text):
        title = unicodedata.name(found[1], "control character").lower()
        parts += [
            escape(text[last : found.start()]),
            Markup('<span class="hidden-char" title="{}">{}</span>').format(title, _name(found[0])),
        ]
        last = found.end()
    return Markup("").join([*parts, escape(text[last:])])


def _normalised(text: object) -> str:
    return limit_marks(str(text).replace("\r\n", "\n"))


def _name(run: str) -> str:
    name = NAMES.get(run[0], f"U+{ord(run[0]):04X}")
    return name if len(run) == 1 else f"{name} x{len(run)}"
