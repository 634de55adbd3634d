"""Makes text of other people harmless, on a terminal and in a spreadsheet.

Questions, chains, teachers' answers and file names may contain escape sequences that move the cursor or name the
window, marks that reverse the order of letters, NULs, and lines of any length. None of these reaches the terminal: such
characters are spelled out (`\\x1b`, `\\u202e`), and long text is cut, with a note on how much is missing.
"""

import unicodedata

from loop.reading.text import limit_marks

LINE_LIMIT = 2_000
BLOCK_LIMIT = 20_000

JOINERS = "\u200c\u200d"
"""Format characters of Persian, Hindi and emoji; they only join or separate their neighbours."""

CELL_STARTS = ("=", "+", "-", "@", "\t", "\r")
"""A spreadsheet reads a cell that begins with one of these as a formula."""


class _Spellings(dict[int, str]):
    """For `str.translate`: how each character is shown, computed when it first occurs."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        hidden = unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp") and character not in JOINERS
        self[code] = _spell(code) if hidden else character
        return self[code]


def _spell(code: int) -> str:
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}" if code < 65536 else f"\\U{code:08x}"


_LINE = _Spellings({ord("\n"): "\\n", ord("\r"): "\\r", ord("\t"): "\\t"})
_BLOCK = _Spellings({ord("\n"): "\n", ord("\r"): "\\r", ord("\t"): "    "})


def one_line(text: object, limit: int = LINE_LIMIT) -> str:
    """The text on one line, without control sequences; cut after `limit` characters."""
    return limit_marks(_cut(str(text), limit)).translate(_LINE)


def block(text: object, limit: int = BLOCK_LIMIT) -> str:
    """The same as `one_line`, with line breaks kept."""
    return limit_marks(_cut(str(text), limit)).translate(_BLOCK)


def spreadsheet_cell(value: object) -> object:
    """A value for CSV: numbers are unchanged; text is on one line, with an apostrophe before a possible formula."""
    if value is None or isinstance(value, (int, float)):
        return value
    text = str(value)
    return ("'" if text.startswith(CELL_STARTS) else "") + one_line(text)


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[:limit]}… ({len(text) - limit:,} characters more)"
