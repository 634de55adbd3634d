"""A bar on one line of the terminal."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console as Terminal
from rich.console import ConsoleOptions, RenderResult
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from loop.reading.text import format_duration
from loop.reporting import Bar
from loop.terminal.escape import one_line

MIN_BAR_WIDTH = 8


FRAMES_A_SECOND = 4


class BarLine:
    """One bar on one line: name, progress, rate, time left, figures. What does not fit is left out at the right."""

    def __init__(self, bar: Bar) -> None:
        self.bar = bar

    def __rich_console__(self, console: Terminal, options: ConsoleOptions) -> RenderResult:
        bar = self.bar
        parts = [f"{bar.n:,} of {bar.total:,}" if bar.total else f"{bar.n:,}", f"{bar.per_second:,.1f} {bar.unit}/s"]
        if bar.left_s is not None and bar.total:
            parts.append(f"{format_duration(bar.left_s)} left")
        parts += [f"{name.replace('_', ' ')} {one_line(value)}" for name, value in bar.figures.items()]
        grid = Table.grid(padding=(0, 1))
        grid.add_row(
            Text(one_line(bar.what), no_wrap=True, overflow="ellipsis"),
            ProgressBar(total=bar.total or None, completed=bar.n, width=max(MIN_BAR_WIDTH, options.max_width // 5 - 8)),
            Text("  ".join(parts), style="cyan", no_wrap=True, overflow="ellipsis"),
        )
        yield grid


@contextmanager
def bar_below(bar: Bar) -> Iterator[None]:
    """Shows a bar on standard error while the context lasts; lines printed meanwhile appear above it."""
    terminal = Terminal(stderr=True)
    shared = os.isatty(1)
    with Live(
        BarLine(bar),
        console=terminal,
        transient=True,
        refresh_per_second=FRAMES_A_SECOND,
        redirect_stdout=shared,
        redirect_stderr=True,
    ):
        yield
