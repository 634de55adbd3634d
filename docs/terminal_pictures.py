"""The pictures of the terminal views in the documentation, of real runs, as SVG: each command in a terminal of its own.

`python docs/terminal_pictures.py DEMO REJECTED` takes those of `docs/views.md` from a run of the demo on which
`evaluate --best-of 8 --policy 4` was called, and that of `docs/inspecting.md` from the run described there.
The live view is taken beside a run that goes on: `python docs/terminal_pictures.py --live ARGUMENTS_OF_RUN`.
"""

import io
import os
import pty
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.text import Text

PROJECT = Path(__file__).resolve().parent.parent
FOLDER = PROJECT / "docs" / "pictures"
PROGRAM = [sys.executable, str(PROJECT / "run_loop.py")]
TERMINAL = {"TERM": "xterm-256color", "COLORTERM": "truecolor"}
LIVE = ("live", 80, 24)
"""Name, columns and lines of the live view's picture."""


def main() -> None:
    """Take the pictures of the runs that are named."""
    if sys.argv[1] == "--live":
        take_live(sys.argv[2:])
        return
    demo, rejected = sys.argv[1:3]
    take("log", 80, "log", demo)
    take("log-wide", 200, "log", demo)
    take("status", 80, "status", demo)
    take("pair", 120, "show", demo, "pair", "784")
    take("verifier", 120, "show", demo, "question", "32", "--policy", "4")
    take("changed", 110, "show", rejected, "question", "8", "--changed-since", "3", "--policy", "4")


def take(name: str, columns: int, *arguments: str) -> None:
    """Save a picture of a command's output on a terminal of `columns` columns."""
    save(
        name,
        columns,
        f"run_loop.py {' '.join(Path(each).name or each for each in arguments)}",
        seen(columns, arguments),
    )


def seen(columns: int, arguments: tuple[str, ...]) -> str:
    """A command's output, with its escape sequences."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, **TERMINAL, "COLUMNS": str(columns), "LINES": "60"}
    process = subprocess.Popen([*PROGRAM, *arguments], stdout=theirs, stdin=theirs, env=environment)
    os.close(theirs)
    text = b""
    try:
        while part := os.read(ours, 65536):
            text += part
    except OSError:  # the other side of a pseudo-terminal has gone
        pass
    process.wait()
    os.close(ours)
    return text.decode().replace("\r\n", "\n")


def take_live(arguments: list[str]) -> None:
    """A run in tmux, and its screen whenever Enter is pressed here, until it has ended."""
    name, columns, lines = LIVE
    tmux = [shutil.which("tmux") or sys.exit("tmux is missing"), "-L", "pictures"]
    size = ["-x", str(columns), "-y", str(lines)]
    subprocess.run([*tmux, "new-session", "-d", *size, *PROGRAM, "run", *arguments], check=True)
    while input("Enter takes the picture, q ends the run: ") != "q":
        screen = subprocess.run([*tmux, "capture-pane", "-e", "-p"], check=True, capture_output=True, text=True)
        save(name, columns, "run_loop.py run", screen.stdout)
    subprocess.run([*tmux, "send-keys", "C-c"], check=True)
    while subprocess.run([*tmux, "has-session"], capture_output=True, check=False).returncode == 0:
        time.sleep(1)


def save(name: str, columns: int, title: str, text: str) -> None:
    """Text with escape sequences as a picture of a terminal; no font is fetched from anywhere."""
    console = Console(record=True, width=columns, file=io.StringIO(), force_terminal=True, highlight=False)
    console.print(Text.from_ansi(text.rstrip()), soft_wrap=True)
    console.print()  # or the last line is cut
    picture = console.export_svg(title=title)
    picture = re.sub(r"@font-face\s*\{.*?\}\s*", "", picture, flags=re.DOTALL)
    (FOLDER / f"{name}.svg").write_text(re.sub(r"<!--.*?-->", "", picture))
    print(f"docs/pictures/{name}.svg: {len(picture) // 1000} kB")


if __name__ == "__main__":
    main()
