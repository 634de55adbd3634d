"""Four runs, each asked for another way: events, nothing, plain lines, and the live view on a terminal.

What each of them printed is kept in `FOLDER/NAME.out`, and its run in `FOLDER/NAME/run`. Controller, store and consoles
are the real ones; vLLM and TRL are stand-ins.
"""

import os
import pty
import sys
import threading
import time
from pathlib import Path

from loop.terminal.choose_console import choose_console
from tests.support.scripted_run import Script, run_scripted, scripted_config


def make_noise(name: str) -> None:
    """Write what a library might write while it trains."""
    if name == "json":
        print("a library prints", flush=True)
    print("a library warns", file=sys.stderr, flush=True)
    os.system("echo compiled code warns >&2")  # noqa: S605
    if name == "live":
        time.sleep(0.6)  # long enough for the panel to be drawn in every round


def run_with_console(folder: Path, name: str) -> None:
    """Run to the end; what is printed goes to `sys.stdout` as it is now."""
    (folder / name).mkdir()
    run_dir = folder / name / "run"
    with choose_console(run_dir, 2, quiet=name == "quiet", as_json=name == "json") as console:
        script = Script(reporter=console, while_training=lambda: make_noise(name))
        run_scripted(run_dir, scripted_config(folder / name), script=script)


def run_on_terminal(folder: Path, name: str) -> None:
    """The same with a pseudo-terminal as standard output."""
    ours, theirs = pty.openpty()

    def keep() -> None:
        with (folder / f"{name}.out").open("wb") as file:
            while True:
                try:
                    file.write(os.read(ours, 65536))
                except OSError:  # the other end was closed
                    return

    reader = threading.Thread(target=keep)
    reader.start()
    with os.fdopen(theirs, "w") as sys.stdout:
        run_with_console(folder, name)
    reader.join()


def main(folder: Path) -> None:
    """All four runs."""
    for name in ("json", "quiet", "plain"):
        with (folder / f"{name}.out").open("w") as sys.stdout:
            run_with_console(folder, name)
    run_on_terminal(folder, "live")


main(Path(sys.argv[1]))
