"""Processes of tests, forked from one that has imported the libraries already.

A process that imports torch, TRL and vLLM needs 10 to 15 s before it does anything; a fork of one that has done so
needs a few hundredths. Each is a session of its own, so that a test can kill it with everything that it started.
Forks share one hash seed: `command_line.command` starts a process of another.
"""

import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parent.parent.parent
FORKS = multiprocessing.get_context("forkserver")
TIMEOUT_S = 500.0
COMMAND_LINE = ("run_loop", "store.schema.migrations")
LOOP = ("loop.controller", "tests.support.loaded_beforehand")
MODELS = ("vllm", "vllm.entrypoints.llm", "vllm.v1.engine.llm_engine")


def import_beforehand(*modules: str) -> None:
    """Begin to start the process that all others are forked from, with these modules imported; does not wait."""
    FORKS.set_forkserver_preload(list(modules))
    forkserver.ensure_running()


class Forked:
    """A function at work in a process of its own, in the project's directory and with this process's environment."""

    def __init__(self, function: Callable[..., object], *arguments: object, **environment: str) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="forked-")
        self._arguments = [str(getattr(function, "__name__", function)), *map(str, arguments)]
        everything = {**os.environ, **environment}
        target = (Path(self._folder.name), everything, function, arguments)
        self._process = FORKS.Process(target=_begin, args=target, daemon=True)
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    def stdout(self) -> str:
        """What it has written so far."""
        return self._read("stdout")

    def has_ended(self) -> bool:
        """Whether it is over; without waiting."""
        return not self._process.is_alive()

    def kill(self, how: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal to the process and everything that it started, and wait for its end."""
        os.killpg(self.pid, how)
        self.wait()

    def kill_alone(self) -> None:
        """Kill the process and nothing that it started, and wait for its end."""
        os.kill(self.pid, signal.SIGKILL)
        self.wait()

    def wait(self, timeout: float = TIMEOUT_S) -> "subprocess.CompletedProcess[str]":
        """Its end; the code is negative where a signal killed it. Raises TimeoutExpired, and leaves it running."""
        self._process.join(timeout)
        code = self._process.exitcode
        if code is None:
            raise subprocess.TimeoutExpired(self._arguments, timeout)
        return subprocess.CompletedProcess(self._arguments, code, self._read("stdout"), self._read("stderr"))

    def _read(self, name: str) -> str:
        file = Path(self._folder.name, name)
        return file.read_text(errors="replace") if file.exists() else ""


def run_forked(
    function: Callable[..., object], *arguments: object, check: int | None = 0, **environment: str
) -> "subprocess.CompletedProcess[str]":
    """Call the function in a process of its own; fails the test on an unexpected exit code."""
    done = Forked(function, *arguments, **environment).wait()
    if check is not None:
        assert done.returncode == check, f"exit {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done


def until(ready: Callable[[], bool], process: Forked, timeout: float = 300.0) -> None:
    """Wait for a moment in the life of a process; fails the test if it ends before."""
    deadline = time.monotonic() + timeout
    while not ready():
        assert not process.has_ended(), process.wait().stderr[-3000:]
        assert time.monotonic() < deadline, "the process never got there"
        time.sleep(0.005)


def _begin(folder: Path, environment: dict[str, str], function: Callable[..., object], arguments: Any) -> None:
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell in the background lets its children ignore it
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(PROJECT)
    for number, stream in ((1, sys.stdout), (2, sys.stderr)):
        file = os.open(folder / ("stdout" if number == 1 else "stderr"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(file, number)
        os.close(file)
        if encoding := environment.get("PYTHONIOENCODING"):
            stream.reconfigure(encoding=encoding)  # type: ignore[union-attr]
    function(*arguments)
