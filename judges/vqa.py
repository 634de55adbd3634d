"""`vqa`: VQA accuracy over annotators (Antol et al. 2015, arXiv 1505.00468), as lmms-eval scores VQAv2.

`textvqa` differs in when answers are normalised; both use the normalisation of this file.
"""

import re
import statistics
from collections.abc import Sequence
from functools import lru_cache

from judges.memo import remember_short

SINGLE = """ain't aren't can't could've couldn't didn't doesn't don't hadn't hasn't haven't he'd he's how'd how'll
how's isn't it'd it'll ma'am mightn't might've mustn't must've needn't not've o'clock oughtn't shan't should've
shouldn't somebody'll somebody's someone'd someone'll someone's something'd something'll that's there'd there're
there's they'd they'll they're they've 'twas wasn't we've weren't what'll what're what's what've when's where'd
where's where've who'd who'll who's who've why'll why're why's won't would've wouldn't y'all you'd you'll you're
you've"""
DOUBLE = """couldn't've hadn't've he'd've it'd've mightn't've she'd've shouldn't've somebody'd've someone'd've
something'd've there'd've they'd've we'd've who'd've wouldn't've y'all'll you'd've"""
CONTRACTIONS = {
    **{word.replace("'", ""): word for word in SINGLE.split()},
    **{word.replace("'", "", 1): word for word in DOUBLE.split()},
    **{word[::-1].replace("'", "", 1)[::-1]: word for word in DOUBLE.split()},
    **dict.fromkeys(("ow's'at", "'ows'at", "'ow'sat"), "'ow's'at"),
    **dict.fromkeys(("yall'd've", "y'alld've", "y'all'dve"), "y'all'd've"),
    "somebody'd": "somebodyd",
}
"""Words without their apostrophes, with the oddities of the published list ("somebody'd" loses its apostrophe)."""

DIGITS = "zero one two three four five six seven eight nine ten"
NUMBERS = {"none": "0", **{word: str(n) for n, word in enumerate(DIGITS.split())}}
ARTICLES = {"a", "an", "the"}
PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
COMMA_IN_NUMBER = re.compile(r"(?<=\d),+(?=\d)")
FULL_STOP = re.compile(r"\.(?!\d)")
STOPS_REMOVED = 32
"""The published code passes a flag (re.UNICODE, which is 32) where the number of replacements goes."""


def vqa(answer: str, accepted: Sequence[str]) -> float:
    """Mean over the annotators of min(1, agreeing others / 3); `accepted` has one answer per annotator.

    The answer is normalised (`normalise`). So are the annotators' answers, but without the first
    step, and only if they are not all the same: "Yes" from all annotators rejects "yes". With a single
    annotator every answer scores 0, because there are no others.
    """
    theirs, unanimous = _annotators(tuple(accepted))
    ours = normalise(answer)
    return agreement(ours if unanimous else _settled(ours), theirs)


@lru_cache(maxsize=4096)
def _annotators(accepted: tuple[str, ...]) -> tuple[tuple[str, ...], bool]:
    """The annotators' answers as used for the comparison, and whether they are all the same."""
    theirs = tuple(each.replace("\n", " ").replace("\t", " ").strip() for each in accepted)
    unanimous = len(set(theirs)) < 2
    return theirs if unanimous else tuple(map(_settled, theirs)), unanimous


def agreement(answer: str, annotators: Sequence[str]) -> float:
    """Soft accuracy of one normalised answer among normalised answers, leaving out each in turn."""
    return _mean(annotators.count(answer), len(annotators))


@lru_cache(maxsize=1024)
def _mean(same: int, total: int) -> float:
    """The mean, computed exactly and rounded once, as in the published code."""
    if not total:
        return 0.0
    leaving_out_one_of_them = [min(1.0, (same - 1) / 3)] * same
    return statistics.mean(leaving_out_one_of_them + [min(1.0, same / 3)] * (total - same))


def same_text(left: str, right: str) -> bool:
    """Equality of normalised texts: for comparing two answers without annotators."""
    return normalise(left) == normalise(right)


@remember_short
def normalise(text: str) -> str:
    """EvalAI's normalisation: lower case, punctuation, articles, number words, contractions."""
    text = text.lower().replace(",", "").replace("?", "").replace("'s", " 's").strip()
    return _settled(text.replace("\n", " ").replace("\t", " ").strip())


@remember_short
def _settled(text: str) -> str:
    return _words(_punctuation(text))


def _punctuation(text: str) -> str:
    """Remove marks beside a space, or turn them into a space; with a comma inside a number, remove every mark."""
    out, goes = text, COMMA_IN_NUMBER.search(text) is not None
    for mark in PUNCTUATION:
        if mark in text:
            out = out.replace(mark, "" if goes or f"{mark} " in text or f" {mark}" in text else " ")
    return FULL_STOP.sub("", out, count=STOPS_REMOVED)


def _words(text: str) -> str:
    words = (NUMBERS.get(word, word) for word in text.lower().split())
    return " ".join(CONTRACTIONS.get(word, word) for word in words if word not in ARTICLES)
