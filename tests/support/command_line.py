"""The real command line and other programs, each in a process of its own."""

import json
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.support import fork_server
from tests.support.forked import Forked, run_forked

PROJECT = fork_server.PROJECT
BASE_MODEL = PROJECT / "models" / "shapes_2m"

SMALL_ENGINE = """
[engine]
max_model_len = 256
max_num_seqs = 64
kv_cache_gib = 0.5
enforce_eager = true
"""


def command(*arguments: object) -> list[str]:
    """The real command line."""
    return [sys.executable, str(PROJECT / "run_loop.py"), *map(str, arguments)]


def run_command(*arguments: object, check: int | None = 0, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run the real command line to its end, forked; fails the test on an unexpected exit code."""
    return run_forked(main, *map(str, arguments), check=check, **environment)


def start_command(*arguments: object, **environment: str) -> Forked:
    """The same, left running."""
    return Forked(main, *map(str, arguments), **environment)


def run_new_command(*arguments: object) -> "subprocess.CompletedProcess[str]":
    """Run it as a user does: a new interpreter, which imports everything anew and has a hash seed of its own."""
    done = subprocess.run(command(*arguments), capture_output=True, text=True, cwd=PROJECT, timeout=500, check=False)
    assert done.returncode == 0, f"exit {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done


def main(*arguments: str) -> None:
    """The command line in this process."""
    import run_loop

    run_loop.main(arguments)


def log_of(run_dir: Path) -> list[dict[str, Any]]:
    """The accuracy log as `log --json` prints it."""
    return [json.loads(line) for line in run_command("log", run_dir, "--json").stdout.splitlines()]


def copy_without(folder: Path, missing: str) -> Path:
    """The shipped model's directory without one file."""
    folder.mkdir()
    for file in BASE_MODEL.iterdir():
        if file.name != missing:
            (folder / file.name).symlink_to(file)
    return folder


def run_program(name: str, *arguments: object, check: int | None = 0) -> "subprocess.CompletedProcess[str]":
    """A program of `tests/support/programs`, forked; fails the test on an unexpected exit code."""
    return run_forked(run_module, f"tests.support.programs.{name}", *map(str, arguments), check=check)


def run_module(module: str, *arguments: str) -> None:
    """Run `python -m module` in this process."""
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def run_new_program(name: str, *arguments: object, **more: Any) -> "subprocess.CompletedProcess[str]":
    """The same in a new interpreter; `more` is for `subprocess.run`."""
    program = [sys.executable, "-W", "ignore", "-m", f"tests.support.programs.{name}", *map(str, arguments)]
    return subprocess.run(program, capture_output=True, text=True, cwd=PROJECT, check=False, **more)
