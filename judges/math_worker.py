"""The program of a worker process of `judges.workers`: math-verify, one comparison per line, JSON in and out."""

import json
import logging
import os
import resource
import signal
import sys
from functools import lru_cache
from typing import Any

from math_verify import parse, verify

from judges.math import readings

MEMORY_BYTES = 2 * 1024**3


def main() -> None:
    """Serve until standard input ends.

    The kernel ends a worker whose comparison has used up its processor time (SIGPROF, with no handler,
    so nothing that runs here can prevent it).
    """
    logging.disable(logging.CRITICAL)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    replies = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)  # output of libraries must not be read as a reply
    compare("1", ["1"])
    print("ready", file=replies, flush=True)
    for line in sys.stdin:
        answer, accepted, timeout = json.loads(line)
        signal.setitimer(signal.ITIMER_PROF, timeout)
        reply = compare(answer, accepted)
        signal.setitimer(signal.ITIMER_PROF, 0)
        print(reply, file=replies, flush=True)


def compare(answer: str, accepted: list[str]) -> str:
    """`equal`, `different`, `unparsed`, `key_unparsed` or `failed`."""
    try:
        ours = expressions(answer)
        theirs = [expressions(each) for each in accepted]
        failed = False
        for gold in (each for found in theirs for each in found):
            for each in ours:
                try:
                    if verify(gold, each, timeout_seconds=None, raise_on_error=True):
                        return "equal"
                except Exception:
                    failed = True
        if failed:
            return "failed"
        if not any(map(_has_expression, theirs)):
            return "key_unparsed"
        return "different" if _has_expression(ours) else "unparsed"
    except (Exception, RecursionError, MemoryError):
        return "failed"


@lru_cache(maxsize=2048)
def expressions(text: str) -> list[Any]:
    """The result of math-verify's parser: an expression and its source text, or only the text, or nothing."""
    found: list[Any] = []
    for reading in readings(text):
        found = parse(reading, parsing_timeout=None)
        if _has_expression(found):
            break
    return found


def _has_expression(found: list[Any]) -> bool:
    return any(not isinstance(each, str) for each in found)
