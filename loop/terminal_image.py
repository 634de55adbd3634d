"""An image in a terminal: kitty's or iTerm2's protocol, else two pixels a character in colour, else its name."""

import base64
import io
from collections.abc import Iterator, Mapping

from PIL import Image
from rich.color import Color
from rich.console import Console, ConsoleOptions, RenderResult
from rich.segment import ControlType, Segment
from rich.style import Style

COLUMNS = 24
CHUNK = 4096
"""Bytes of base64 that kitty takes in one escape sequence."""
HALF_BLOCK = "▀"


def protocol(terminal: Console, environment: Mapping[str, str]) -> str | None:
    """`kitty`, `iterm`, `blocks`, or None where nothing but text can be shown.

    Told by the variables that terminals set. Inside tmux they are those of the terminal outside, so blocks it is.
    """
    if not terminal.is_terminal:
        return None
    program, kind = environment.get("TERM_PROGRAM", ""), environment.get("TERM", "")
    if "TMUX" not in environment and not kind.startswith(("screen", "tmux")):
        if "KITTY_WINDOW_ID" in environment or kind in ("xterm-kitty", "xterm-ghostty") or program == "ghostty":
            return "kitty"
        if program in ("iTerm.app", "WezTerm"):
            return "iterm"
    return "blocks" if terminal.color_system in ("truecolor", "256") else None


class Picture:
    """An image file's bytes, drawn by a protocol."""

    def __init__(self, content: bytes, how: str) -> None:
        self.content, self.how = content, how

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        with Image.open(io.BytesIO(self.content)) as file:
            image = file.convert("RGB")
        if self.how == "blocks":
            yield from _blocks(image, min(COLUMNS, options.max_width))
            return
        png = io.BytesIO()
        image.save(png, "PNG")
        data = base64.b64encode(png.getvalue()).decode()
        # As a control segment it has no width: anything else would be cut at the right edge.
        yield Segment(_kitty(data) if self.how == "kitty" else _iterm(data), None, [(ControlType.BELL,)])
        yield Segment.line()


def _blocks(image: Image.Image, columns: int) -> Iterator[Segment]:
    lines = max(1, round(columns * image.height / image.width / 2))
    small = image.resize((columns, 2 * lines), Image.Resampling.LANCZOS)
    pixels = small.tobytes()

    def colour(x: int, y: int) -> Color:
        place = 3 * (y * columns + x)
        return Color.from_rgb(*pixels[place : place + 3])

    for y in range(0, 2 * lines, 2):
        for x in range(columns):
            yield Segment(HALF_BLOCK, Style(color=colour(x, y), bgcolor=colour(x, y + 1)))
        yield Segment.line()


def _kitty(data: str) -> str:
    chunks = [data[start : start + CHUNK] for start in range(0, len(data), CHUNK)]
    first = f"a=T,f=100,c={COLUMNS},"
    return "".join(
        f"\x1b_G{first if n == 0 else ''}m={int(n < len(chunks) - 1)};{chunk}\x1b\\" for n, chunk in enumerate(chunks)
    )


def _iterm(data: str) -> str:
    return f"\x1b]1337;File=inline=1;width={COLUMNS};preserveAspectRatio=1:{data}\x07"
