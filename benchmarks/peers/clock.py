"""Counts a peer's seconds of work; the clock is stopped during evaluation."""

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager


class Clock:
    """Counts the seconds inside `running`, and prints a line of JSON for each round."""

    def __init__(self) -> None:
        self.seconds = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Count the seconds inside this context."""
        started = time.monotonic()
        try:
            yield
        finally:
            self.seconds += time.monotonic() - started

    def report(self, round_: int, chains: int, correct: float) -> None:
        """Print a round's end: seconds so far, chains sampled so far, accuracy of the new policy."""
        line = {"round": round_, "seconds": round(self.seconds, 1), "chains": chains, "cot": round(correct, 4)}
        print(json.dumps(line), flush=True)


def until(round_: int, clock: Clock, correct: float, seconds: float, enough: float) -> bool:
    """Whether a peer continues: its accuracy is below `enough`, and time is left."""
    print(f"round {round_}: {clock.seconds:.0f} s, {100 * correct:.1f}%", file=sys.stderr, flush=True)
    return correct < enough and clock.seconds < seconds
