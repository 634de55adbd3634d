"""`numeric`: equality of numbers as people write them, with tolerances."""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Context, Decimal, InvalidOperation

from judges.memo import remember_short

EXACT = Context(prec=60)
MAX_LENGTH = 200
"""A longer text is not taken for a number."""

MINUS = str.maketrans({"−": "-", "‐": "-", "‑": "-", "‒": "-", "–": "-", "—": "-", "⁄": "/", "’": "'", "٫": "."})
CURRENCIES = {"$": "usd", "€": "eur", "£": "gbp", "¥": "jpy", "₹": "inr", "₩": "krw", "₽": "rub"}
UNIT_NAMES = {**CURRENCIES, "dollar": "usd", "us dollar": "usd", "euro": "eur"}
SIGN = r"[-+]?\s?"
DIGITS = r"(?:\d[\d. ]*\d,\d+(?![,\d ])|\d[\d,'\u00a0\u202f ]*(?:\.\d[\d,]*)?|\d[\d.]*|\.\d+)"
NUMBER = re.compile(rf"({SIGN})({DIGITS}\.?)(?:\s?(?:e|[x*×·]\s?10\s?(?:\^|\*\*))\s?\(?([-+]?\d{{1,4}})\)?(?![\d.]))?")
MIXED = re.compile(rf"({SIGN})(?:(\d+)\s+)?(\d+)\s?/\s?(\d+)")
GROUPED = re.compile(r"\d{1,3}(?:([,' \u00a0\u202f])\d{2,3})(?:\1\d{2,3})*(?<=\d{3})(?:\.\d*)?")
POINTED = re.compile(r"\d{1,3}(?:[. ]\d{3})+,\d+|\d+,\d+|\d{1,3}(?:\.\d{3}){2,}")
TENS_POWER = re.compile(r"(?<=10)[⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+")
POWER = re.compile(r"10\s?(?:\^|\*\*)\s?\(?([-+]?\d{1,4})\)?(?![\d.])")
SIMPLE = re.compile(r"-?(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)(?:\.[0-9]+)?")
PLAIN = re.compile(r"\d+\.?\d*|\.\d+")

SMALL = """zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen
seventeen eighteen nineteen"""
TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
SCALES = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
WORDS = {
    **{word: n for n, word in enumerate(SMALL.split())},
    **{word: 10 * n for n, word in enumerate(TENS.split(), 2)},
    "a": 1,
    "an": 1,
    "hundred": 100,
    **SCALES,
}
PARTS = {"half": Decimal("0.5"), "quarter": Decimal("0.25"), "third": EXACT.divide(1, 3)}


@dataclass(frozen=True)
class Number:
    """A value, whether it is a percentage (then `value` is already divided by 100), and its unit or ''."""

    value: Decimal
    percent: bool
    unit: str


def numeric(answer: str, accepted: Sequence[str], *, relative: float = 0.0, absolute: float = 0.0) -> float:
    """1.0 if the number is within either tolerance of an accepted one, else 0.0.

    Read: signs (also the Unicode minus), full-width digits, thousands separators (`1,000`, `1 000`,
    `1'000`; `1.000` is one), decimal commas (`1,5`, `1.000,5`), fractions (`1/2`, `1 1/2`),
    scientific notation (`1e3`, `1.5 x 10^3`), number words (`twenty-one`, `two million`), currency
    signs, units, `%`. Units must agree if both have one. A percentage equals its value (`50%` is
    0.5) and, if only one side has the sign, its figure (`50%` is 50). Dates, times and ranges are
    not numbers. An accepted answer that is not a number equals the same text only.

    The tolerances are `absolute`, and `relative` to the accepted number; 0 means equal.
    """
    number = parse_number(answer)
    return float(any(_meets(number, answer, each, relative, absolute) for each in accepted))


def _meets(number: Number | None, answer: str, target: str, relative: float, absolute: float) -> bool:
    wanted = parse_number(target)
    if wanted is None or number is None:
        return wanted is number and " ".join(answer.split()).casefold() == " ".join(target.split()).casefold()
    if number.unit and wanted.unit and number.unit != wanted.unit:
        return False
    ours, theirs = number.value, wanted.value
    if _close(ours, theirs, relative, absolute):
        return True
    if number.percent == wanted.percent:
        return False
    ours, theirs = (100 * ours, theirs) if number.percent else (ours, 100 * theirs)
    return _close(ours, theirs, relative, absolute)


def _close(ours: Decimal, theirs: Decimal, relative: float, absolute: float) -> bool:
    if ours == theirs or not (relative or absolute):
        return ours == theirs
    room = max(Decimal(repr(absolute)), EXACT.multiply(Decimal(repr(relative)), abs(theirs)))
    return EXACT.abs(EXACT.subtract(ours, theirs)) <= room


@remember_short
def parse_number(text: str) -> Number | None:
    """The number that a text is, or None if it is not one number."""
    if len(text) > MAX_LENGTH:
        return None
    if SIMPLE.fullmatch(text):
        return Number(Decimal(text.replace(",", "")), False, "")
    text = TENS_POWER.sub(r"^\g<0>", text)
    text = unicodedata.normalize("NFKC", text.translate(MINUS)).casefold().strip().translate(MINUS)
    text = text.rstrip(".!;,") if text[:1] != "." else text
    sign, text = _leading_sign(text)
    currency = ""
    if text[:1] in CURRENCIES:
        currency, text = CURRENCIES[text[0]], text[1:].strip()
    found = _fraction(text) or _digits(text) or _words(text)
    if found is None:
        return None
    value, rest = found
    rest = rest.strip()
    for scale, factor in SCALES.items():
        if rest == scale or rest.startswith(f"{scale} "):
            value, rest = EXACT.multiply(value, factor), rest[len(scale) :].strip()
    percent = rest in ("%", "percent", "per cent", "pct", "percentage")
    unit = currency or ("" if percent else _unit(rest))
    if unit is None or (currency and rest and not percent):
        return None
    value = -value if sign else value
    return Number(EXACT.divide(value, 100) if percent else value, percent, unit)


def _leading_sign(text: str) -> tuple[bool, str]:
    if text[:1] == "-" and text[1:2] not in ("-", "+"):
        return True, text[1:].lstrip()
    for word in ("minus ", "negative "):
        if text.startswith(word):
            return True, text[len(word) :]
    return False, text[1:].lstrip() if text[:1] == "+" and text[1:2] not in ("-", "+") else text


def _fraction(text: str) -> tuple[Decimal, str] | None:
    match = MIXED.match(text)
    if match is None or match[1] or not int(match[4]) or text[match.end() : match.end() + 1] in ("/", ".", ","):
        return None
    return EXACT.add(int(match[2] or 0), EXACT.divide(int(match[3]), int(match[4]))), text[match.end() :]


def _digits(text: str) -> tuple[Decimal, str] | None:
    if power := POWER.match(text):
        return EXACT.scaleb(Decimal(1), int(power[1])), text[power.end() :]
    match = NUMBER.match(text)
    if match is None or match[1]:
        return None
    digits = match[2].rstrip(" ")
    rest = text[match.end() :] if match[3] else text[len(digits) :]
    if GROUPED.fullmatch(digits):
        digits = re.sub(r"[^\d.]", "", digits)
    elif POINTED.fullmatch(digits):
        digits = digits.replace(".", "").replace(" ", "").replace(",", ".")
    elif not PLAIN.fullmatch(digits):
        return None
    try:
        return EXACT.scaleb(Decimal(digits), int(match[3] or 0)), rest
    except InvalidOperation:
        return None


def _words(text: str) -> tuple[Decimal, str] | None:
    """Number words from the start; `half`, `a quarter`, `third` alone."""
    words = text.replace("-", " ").split()
    if words and (part := words[-1].removesuffix("s")) in PARTS:
        count = 1 if words[:-1] in ([], ["a"]) else WORDS.get(words[0]) if len(words) == 2 else None
        return None if count is None else (EXACT.multiply(count, PARTS[part]), "")
    total = current = used = 0
    for word in words:
        if word == "and" and used and used + 1 < len(words) and words[used + 1] in WORDS:
            used += 1
            continue
        if word not in WORDS or (word in ("a", "an") and used):
            break
        used += 1
        if word == "hundred":
            current = max(1, current) * 100
        elif word in SCALES:
            total, current = total + max(1, current) * SCALES[word], 0
        else:
            current += WORDS[word]
    if not used or words[:used] in (["a"], ["an"]):
        return None
    return Decimal(total + current), " ".join(words[used:])


def _unit(text: str) -> str | None:
    """A unit's folded name, '' for none, None for a text that is no unit (another number, the rest of a date)."""
    if not text:
        return ""
    if len(text) > 30 or text[0] in "-/:+,.'^*=" or re.search(r"(?<![a-z^])\d", text):
        return None
    name = text.rstrip(".").removesuffix("s") or text
    return UNIT_NAMES.get(name, name)
