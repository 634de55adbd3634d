"""Processes of tests, forked from one that has imported the libraries already (`tests.support.fork_server`).

Each is a session of its own, so that a test can kill it with everything that it started. Forks share one hash seed:
`command_line.run_new_command` starts a process of another.
"""

import os
import pickle
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.fork_server import PROJECT, Work

ADDRESS = "RATCHET_FORK_SERVER"
"""The environment variable that tells test workers where the server is."""
LOOP = ("run_loop", "store.schema.migrations", "loop.controller", "tests.support.loaded_beforehand")
ENGINE = ("vllm", "vllm.entrypoints.llm", "vllm.v1.engine.llm_engine")
TIMEOUT_S = 500.0


@contextmanager
def fork_server(*modules: str) -> Iterator[None]:
    """A server that imports these modules; whoever asks before it has done so waits."""
    with tempfile.TemporaryDirectory(prefix="forks-") as folder, socket.socket(socket.AF_UNIX) as listening:
        os.environ[ADDRESS] = f"{folder}/socket"
        listening.bind(os.environ[ADDRESS])
        listening.listen()
        program = [sys.executable, "-W", "ignore", "-m", "tests.support.fork_server", str(listening.fileno()), *modules]
        with subprocess.Popen(
            program, cwd=PROJECT, stdin=subprocess.PIPE, pass_fds=[listening.fileno()], start_new_session=True
        ) as server:
            listening.close()
            yield
            server.kill()


class Forked:
    """A function at work in a process of its own, in the project's directory and with this process's environment."""

    def __init__(self, function: Callable[..., object], *arguments: object, **environment: str) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="forked-")
        self._name = [function.__name__, *map(str, arguments)]
        self._code: int | None = None
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(os.environ[ADDRESS])
        self._stream = self._socket.makefile("rwb")
        pickle.dump(Work(function, arguments, {**os.environ, **environment}, Path(self._folder.name)), self._stream)
        self._stream.flush()
        self.pid: int = pickle.load(self._stream)  # noqa: S301 (from our own server)

    def stdout(self) -> str:
        """The standard output so far."""
        return self._read("stdout")

    def has_ended(self) -> bool:
        """Whether it is over; without waiting."""
        return self._ends_within(0.0)

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
        if not self._ends_within(timeout):
            raise subprocess.TimeoutExpired(self._name, timeout)
        assert self._code is not None
        return subprocess.CompletedProcess(self._name, self._code, self._read("stdout"), self._read("stderr"))

    def _ends_within(self, timeout: float) -> bool:
        if self._code is None and select.select([self._socket], [], [], timeout)[0]:
            self._code = pickle.load(self._stream)  # noqa: S301 (from our own server)
            self._stream.close()
            self._socket.close()
        return self._code is not None

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
