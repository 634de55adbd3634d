"""Output of `run`: one line per finished step, and a progress bar for long steps."""

import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import Any, Self

from loop.reporting import Bar, log
from loop.terminal.escape import block
from store import Store


class Console:
    """Plain lines on standard output, and a bar at the bottom on a terminal."""

    def __init__(self, *, quiet: bool = False, clock: Callable[[], float] = time.monotonic) -> None:
        self.quiet, self.clock = quiet, clock

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        pass

    def say(self, line: str) -> None:
        """Print a line, and write it to the run's log file."""
        log.info(line)
        if not self.quiet:
            self._print(block(line))

    def show_log(self, store: Store) -> None:
        """Print the accuracy log in its full width: a file takes lines of any length."""
        from loop.terminal.log_table import format_log

        self.say(format_log(store))

    def phase_begins(self, store: Store, number: int, phase: str) -> None:
        """A phase of a round begins, or continues after an interruption."""
        self.say(f"round {number}: {phase}")

    def phase_ends(self, number: int, phase: str, seconds: float) -> None:
        """A phase has finished; `seconds` are those of this session."""
        log.info("round %d: %s took %.1f s", number, phase, seconds)

    def round_ends(self, store: Store, number: int) -> None:
        """A round has finished with a decision."""
        from loop.reading.accuracy_log import log_rows
        from loop.terminal.log_table import round_sentence

        self.say(round_sentence(log_rows(store, after=number - 1)[0]))

    @contextmanager
    def bar(self, what: str, total: int, unit: str, done: int = 0) -> Iterator[Bar]:
        """A progress bar with rate and time left; it starts at the progress of an earlier session."""
        with ExitStack() as stack:
            bar = Bar(what, total, unit, done, lambda _: None, self.clock)
            if not self.quiet and sys.stderr.isatty():
                from loop.terminal.bar_line import bar_below

                stack.enter_context(bar_below(bar))
            yield bar

    def _print(self, text: str) -> None:
        print(text, flush=True)


class EventConsole(Console):
    """One JSON object per line on standard output for each event; nothing for people."""

    PROGRESS_S = 5.0

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(quiet=True, clock=clock)
        self._out = sys.stdout

    def __enter__(self) -> Self:
        # Output of libraries must not break the stream of events.
        sys.stdout = sys.stderr
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        sys.stdout = self._out

    def event(self, name: str, **figures: Any) -> None:
        """Print one event with the present time (UTC)."""
        import json

        from store.database import now

        print(json.dumps({"event": name, "time": now(), **figures}), file=self._out, flush=True)

    def say(self, line: str) -> None:
        """Print an event `message`."""
        super().say(line)
        self.event("message", text=line)

    def show_log(self, store: Store) -> None:
        """Nothing: every round was already an event."""

    def phase_begins(self, store: Store, number: int, phase: str) -> None:
        """Print an event `phase_begins`, and `round_begins` before a round's first phase."""
        log.info("round %d: %s", number, phase)
        row = store.row("SELECT serving_policy FROM round WHERE number = ?", number)
        assert row is not None
        if not store.row("SELECT 1 FROM phase_time WHERE round = ?", number):
            questions = store.value("SELECT count(*) FROM round_question WHERE round = ?", number)
            self.event("round_begins", round=number, serving_policy=row["serving_policy"], questions=questions)
        self.event("phase_begins", round=number, phase=phase)

    def phase_ends(self, number: int, phase: str, seconds: float) -> None:
        """Print an event `phase_ends`."""
        super().phase_ends(number, phase, seconds)
        self.event("phase_ends", round=number, phase=phase, seconds=round(seconds, 3))

    def round_ends(self, store: Store, number: int) -> None:
        """Print an event `round_ends` with the round's row of the accuracy log."""
        from loop.reading.accuracy_log import log_rows

        self.event("round_ends", **log_rows(store, after=number - 1)[0])

    @contextmanager
    def bar(self, what: str, total: int, unit: str, done: int = 0) -> Iterator[Bar]:
        """Print events `progress`, at most one in five seconds."""
        last = self.clock()

        def show(bar: Bar) -> None:
            nonlocal last
            if self.clock() - last >= self.PROGRESS_S:
                last = self.clock()
                rates = {"per_second": round(bar.per_second, 3), "left_s": bar.left_s}
                self.event(
                    "progress", what=bar.what, unit=unit, done=bar.n, total=bar.total, **rates, figures=bar.figures
                )

        yield Bar(what, total, unit, done, show, self.clock)


def table_width() -> int | None:
    """The width of a table: that of the terminal, or COLUMNS; None if the output is not a terminal."""
    columns = shutil.get_terminal_size().columns
    return columns if sys.stdout.isatty() or os.environ.get("COLUMNS") else None
