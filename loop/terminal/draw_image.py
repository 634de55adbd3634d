"""Draws images in a terminal: kitty's, iTerm2's or sixel graphics, else two pixels per character, else a name."""

import base64
import io
from collections.abc import Iterator, Mapping
from itertools import groupby

from PIL import Image
from rich.color import Color
from rich.console import Console, ConsoleOptions, RenderResult
from rich.segment import ControlType, Segment
from rich.style import Style

COLUMNS, ROWS = 24, 24
"""Most characters of the screen that an image takes."""
CELL = (10, 20)
"""Pixels of a character, approximately, on any terminal."""
SHARP = 2
"""Pixels sent per shown pixel, to terminals that scale images."""
COLOURS = 128
SIXEL = ("foot", "mlterm", "contour", "yaft")
SIXEL_KONSOLE = 220400
"""The first version of Konsole that draws sixel graphics correctly."""
CHUNK = 4096
"""Most bytes of base64 in one escape sequence of kitty."""
HALF_BLOCK = "▀"


def protocol(terminal: Console, environment: Mapping[str, str]) -> str | None:
    """`kitty`, `iterm`, `sixel`, `blocks`, or None if only text can be shown.

    Recognised by variables that terminals set. Inside tmux these belong to the outer terminal, so blocks are used.
    """
    if not terminal.is_terminal:
        return None
    program, kind = environment.get("TERM_PROGRAM", ""), environment.get("TERM", "")
    if "TMUX" not in environment and not kind.startswith(("screen", "tmux")):
        if "KITTY_WINDOW_ID" in environment or kind in ("xterm-kitty", "xterm-ghostty") or program == "ghostty":
            return "kitty"
        if program in ("iTerm.app", "WezTerm"):
            return "iterm"
        konsole = environment.get("KONSOLE_VERSION", "0")
        if (
            kind.partition("-")[0] in SIXEL
            or program in ("mintty", "contour")
            or (konsole.isdecimal() and int(konsole) >= SIXEL_KONSOLE)
        ):
            return "sixel"
    return "blocks" if terminal.color_system in ("truecolor", "256") else None


class Picture:
    """An image file's bytes, drawn by a protocol."""

    def __init__(self, content: bytes, how: str) -> None:
        self.content, self.how = content, how

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        with Image.open(io.BytesIO(self.content)) as file:
            image = file.convert("RGB")
        columns, rows = size(image, options.max_width)
        if self.how == "blocks":
            yield from _blocks(image, columns, rows)
            return
        shown = (columns * CELL[0], rows * CELL[1])
        if self.how == "sixel":
            yield from _control(sixel(image.resize(shown, Image.Resampling.LANCZOS)))
            return
        image.thumbnail((SHARP * shown[0], SHARP * shown[1]))
        png = io.BytesIO()
        image.save(png, "PNG")
        data = base64.b64encode(png.getvalue()).decode()
        yield from _control(_kitty(data, columns, rows) if self.how == "kitty" else _iterm(data, columns, rows))


def size(image: Image.Image, width: int) -> tuple[int, int]:
    """Columns and rows of an image in its proportions, on a terminal of this width."""
    columns = min(COLUMNS, width)
    shape = image.height / image.width * CELL[0] / CELL[1]
    if columns * shape > ROWS:
        columns = max(1, round(ROWS / shape))
    return columns, min(ROWS, max(1, round(columns * shape)))


def _control(sequence: str) -> Iterator[Segment]:
    """A control segment has no width, so it is not cut at the right edge."""
    yield Segment(sequence, None, [(ControlType.BELL,)])
    yield Segment.line()


def _blocks(image: Image.Image, columns: int, lines: int) -> Iterator[Segment]:
    small = image.resize((columns, 2 * lines), Image.Resampling.LANCZOS)
    pixels = small.tobytes()

    def colour(x: int, y: int) -> Color:
        place = 3 * (y * columns + x)
        return Color.from_rgb(*pixels[place : place + 3])

    for y in range(0, 2 * lines, 2):
        for x in range(columns):
            yield Segment(HALF_BLOCK, Style(color=colour(x, y), bgcolor=colour(x, y + 1)))
        yield Segment.line()


def _kitty(data: str, columns: int, rows: int) -> str:
    chunks = [data[start : start + CHUNK] for start in range(0, len(data), CHUNK)]
    first = f"a=T,f=100,c={columns},r={rows},"
    return "".join(
        f"\x1b_G{first if n == 0 else ''}m={int(n < len(chunks) - 1)};{chunk}\x1b\\" for n, chunk in enumerate(chunks)
    )


def _iterm(data: str, columns: int, rows: int) -> str:
    return f"\x1b]1337;File=inline=1;width={columns};height={rows};preserveAspectRatio=1:{data}\x07"


def sixel(image: Image.Image) -> str:
    """The image as sixel graphics (DEC STD 070, "Sixel Graphics Extension"): bands of six lines, colour by colour."""
    paletted = image.quantize(COLOURS)
    palette = paletted.getpalette() or []
    width, height = paletted.size
    pixels = paletted.tobytes()
    parts = [f'\x1bPq"1;1;{width};{height}']
    for colour in sorted(set(pixels)):
        shares = (round(each * 100 / 255) for each in palette[3 * colour : 3 * colour + 3])
        parts.append(f"#{colour};2;" + ";".join(map(str, shares)))
    for top in range(0, height, 6):
        lines = [pixels[y * width : (y + 1) * width] for y in range(top, min(top + 6, height))]
        for colour in sorted(set(b"".join(lines))):
            bits = (sum((line[x] == colour) << y for y, line in enumerate(lines)) for x in range(width))
            runs = ((chr(63 + each), len(list(run))) for each, run in groupby(bits))
            parts.append(
                f"#{colour}" + "".join(f"!{count}{mark}" if count > 3 else mark * count for mark, count in runs)
            )
            parts.append("$")
        parts.append("-")
    return "".join(parts) + "\x1b\\"
