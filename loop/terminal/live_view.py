"""The live view of `run`: a panel at the bottom of the terminal; lines scroll above it.

It shows the latest figures from the loop's thread. The drawing thread neither reads the store nor waits.
"""

import os
import re
import termios
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rich.console import Console as Terminal
from rich.console import Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.text import Text

from loop.reading.accuracy_log import log_rows
from loop.reading.text import format_duration
from loop.reporting import Bar, log
from loop.run_log import library_noise_to
from loop.terminal.bar_line import FRAMES_A_SECOND, BarLine
from loop.terminal.console import Console
from loop.terminal.escape import block, one_line
from loop.terminal.log_table import (
    COLUMNS,
    Row,
    fit_columns,
    format_header,
    format_log,
    format_row,
    round_sentence,
    with_base_row,
)
from store import Store
from store.teacher.calls import spent

ROUNDS_SHOWN = 4
LINES_FOR_ROUNDS = 16
"""On a screen with fewer lines the panel leaves out the rounds."""


class LiveConsole(Console):
    """The console of `run` on a terminal; `rounds` is 0 for a run without end."""

    def __init__(self, run_dir: Path, rounds: int, terminal: Terminal | None = None) -> None:
        super().__init__()
        self.run_dir, self.rounds = run_dir, rounds
        self.terminal = terminal or Terminal(highlight=False, markup=False, emoji=False)
        self._started, self._phase_started = self.clock(), self.clock()
        self._title, self._bars = "loading", list[Bar]()
        self._rows, self._teacher = list[Row](), (0, 0.0)
        self._stack = ExitStack()
        """Redirects libraries' standard error to run.log while the panel is shown."""
        self._live = Live(
            get_renderable=self.panel,
            console=self.terminal,
            transient=True,
            refresh_per_second=FRAMES_A_SECOND,
            redirect_stderr=False,
            vertical_overflow="crop",
        )

    def __enter__(self) -> Self:
        self._stack.enter_context(library_noise_to(self.run_dir))
        self._stack.enter_context(_without_echo())
        self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._live.stop()
        self._stack.close()

    def show_log(self, store: Store) -> None:
        """Print the accuracy log in the width of the terminal."""
        log.info(format_log(store))
        self.terminal.print(Text.from_ansi(format_log(store, self.terminal.width, colour=True)), soft_wrap=True)

    def phase_begins(self, store: Store, number: int, phase: str) -> None:
        """Show the phase and the latest rounds in the panel."""
        super().phase_begins(store, number, phase)
        self._read_store(store, number)
        of = f" of {self.rounds}" if self.rounds else ""
        self._title, self._phase_started = f"round {number}{of}: {phase}", self.clock()

    def round_ends(self, store: Store, number: int) -> None:
        """Print a line for the round, and show its figures in the panel."""
        self._read_store(store, number)
        self.say(round_sentence(self._rows[-1]))

    def _read_store(self, store: Store, number: int) -> None:
        rows = log_rows(store, after=number - ROUNDS_SHOWN)
        self._rows = (with_base_row(rows) if rows and rows[0]["round"] == 0 else rows)[-ROUNDS_SHOWN:]
        self._teacher = spent(store)

    @contextmanager
    def bar(self, what: str, total: int, unit: str, done: int = 0) -> Iterator[Bar]:
        """A bar in the panel."""
        # The panel's title already names the round.
        bar = Bar(re.sub(r"^round \d+: ", "", what), total, unit, done, lambda _: None, self.clock)
        self._bars.append(bar)
        try:
            yield bar
        finally:
            self._bars.remove(bar)

    def panel(self) -> RenderableType:
        """The panel's present content."""
        inner = self.terminal.width - 4
        parts: list[RenderableType] = [BarLine(bar) for bar in [*self._bars]]
        parts = parts or [Text(f"{self._title.partition(': ')[2] or self._title} …", style="cyan")]
        parts.append(Text("   ".join(self._figures()), no_wrap=True, overflow="ellipsis"))
        if self._rows and self.terminal.height >= LINES_FOR_ROUNDS:
            columns = fit_columns(COLUMNS, inner)
            parts += [Text(format_header(columns), style="bold", no_wrap=True)]
            parts += [Text.from_ansi(format_row(row, columns, colour=True), no_wrap=True) for row in self._rows]
        title = Text(f" {self._title}   {one_line(self.run_dir.name, 40)} ", style="bold")
        return Panel(Group(*parts), title=title, title_align="left", border_style="blue")

    def _figures(self) -> Iterator[str]:
        now, right = self.clock(), self._rows[-1]["pass_rate"] if self._rows else None
        yield f"phase {format_duration(now - self._phase_started)}, session {format_duration(now - self._started)}"
        if right is not None:
            yield f"pass rate {100 * right:.1f} %"
        if self._teacher[0]:
            yield f"teacher ${self._teacher[1]:.2f} for {self._teacher[0]:,} requests"
        if (memory := resident_bytes()) is not None:
            yield f"memory {memory / 2**30:.1f} GiB"

    def _print(self, text: str) -> None:
        self.terminal.print(Text(block(text)), soft_wrap=True)


@contextmanager
def _without_echo() -> Iterator[None]:
    """Keeps the terminal from writing ^C into the panel when Ctrl-C is pressed."""
    if not _in_foreground():
        yield
        return
    before = termios.tcgetattr(0)
    after = [*before[:3], before[3] & ~termios.ECHOCTL, *before[4:]]
    termios.tcsetattr(0, termios.TCSANOW, after)
    try:
        yield
    finally:
        if _in_foreground():
            termios.tcsetattr(0, termios.TCSANOW, before)


def _in_foreground() -> bool:
    """Whether this process owns the terminal: a background process that changes it is stopped (SIGTTOU)."""
    try:
        return os.isatty(0) and os.tcgetpgrp(0) == os.getpgrp()
    except OSError:
        return False


def resident_bytes() -> int | None:
    """Memory of this process now, if the system tells it (Linux)."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return None
    size: Any = os.sysconf("SC_PAGE_SIZE")
    return pages * int(size)
