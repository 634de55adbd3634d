"""The real command line and other programs, each in a process of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent.parent
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


def run_command(*arguments: object, check: int | None = 0, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the real command line to its end; fails the test on an unexpected exit code."""
    done = subprocess.run(
        command(*arguments),
        capture_output=True,
        text=True,
        cwd=PROJECT,
        env={**os.environ, **environment},
        timeout=500,
        check=False,
    )
    if check is not None:
        assert done.returncode == check, f"exit {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done


def log_of(run_dir: Path) -> list[dict]:
    """The accuracy log as `log --json` prints it."""
    return [json.loads(line) for line in run_command("log", run_dir, "--json").stdout.splitlines()]


def copy_without(folder: Path, missing: str) -> Path:
    """The shipped model's directory without one file."""
    folder.mkdir()
    for file in BASE_MODEL.iterdir():
        if file.name != missing:
            (folder / file.name).symlink_to(file)
    return folder


def run_python(program: str, *arguments: object, check: bool = True) -> subprocess.CompletedProcess[str]:
    """A program of a test in a process of its own, with the project and its tests on the path."""
    path = os.pathsep.join([str(PROJECT), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program, *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path, "TOKENIZERS_PARALLELISM": "false"},
        check=False,
    )
    assert done.returncode == 0 or not check, done.stderr[-3000:]
    return done


def run_program(name: str, *arguments: object, check: bool = True) -> subprocess.CompletedProcess[str]:
    """A program of `tests/support/programs` in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", f"tests.support.programs.{name}", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=PROJECT,
        env={**os.environ, "TOKENIZERS_PARALLELISM": "false"},
        check=False,
    )
    assert done.returncode == 0 or not check, done.stderr[-3000:]
    return done
