"""Worker processes that can be killed: they protect `math` from inputs that make it hang.

Child processes on pipes, started anew and never forked (a fork of a process with threads or a GPU is unsafe), one
comparison at a time each. The time-out is processor time, so that a busy machine changes no verdict; in
wall-clock time a worker may take `SLACK` times as long. A late or dead worker is killed, waited for and replaced.
"""

import atexit
import json
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Literal, cast

Reply = Literal["equal", "different", "unparsed", "key_unparsed", "failed", "timeout"]

ROOT = Path(__file__).resolve().parent.parent
RUN = "import sys; sys.path.insert(0, {root!r}); from judges.math_worker import main; main()"
KEPT_VARIABLES = ("PATH", "HOME", "LANG", "LD_LIBRARY_PATH", "PYTHONPATH", "PYTHONHOME", "TMPDIR")
START_S = 120.0
SLACK, ROUND_TRIP_S = 10.0, 1.0


class Worker:
    """One child process with line-wise pipes."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(  # noqa: S603  our own interpreter, our own code
            [sys.executable, "-P", "-c", RUN.format(root=str(ROOT))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ},
        )
        assert self._process.stdout is not None
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._process.stdout, selectors.EVENT_READ)
        self._buffer = b""
        self._ready = False

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the child still runs."""
        return self._process.poll() is None

    def wait_until_ready(self) -> None:
        """Wait for the imports; raises RuntimeError if the child cannot start."""
        if not self._ready:
            if self._line(START_S) != "ready":
                self.kill()
                raise RuntimeError("the worker of judge 'math' does not start; is math-verify installed?")
            self._ready = True

    def ask(self, answer: str, accepted: Sequence[str], timeout: float) -> Reply:
        """The reply. After "timeout" the child hangs or is dead, so the caller must kill it."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps([answer, list(accepted), timeout]).encode() + b"\n")
            self._process.stdin.flush()
        except OSError:
            self._process.kill()
            self._process.wait()
            return "failed"
        line = self._line(SLACK * timeout + ROUND_TRIP_S)
        if line is None:
            return "timeout" if self._process.wait() == -signal.SIGPROF else "failed"
        return cast("Reply", line)

    def _line(self, timeout: float) -> str | None:
        """The next line, "timeout", or None at the end of the stream."""
        assert self._process.stdout is not None
        deadline = time.monotonic() + timeout
        while b"\n" not in self._buffer:
            left = deadline - time.monotonic()
            if left <= 0 or not self._selector.select(left):
                return "timeout"
            chunk = os.read(self._process.stdout.fileno(), 65536)
            if not chunk:
                return None
            self._buffer += chunk
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line.decode("ascii")

    def kill(self) -> None:
        """Kill the child and wait for it, so that no zombie stays."""
        self._process.kill()
        self._process.wait()
        self._selector.close()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            try:
                pipe.close()
            except OSError:
                continue  # a pipe whose reader is gone cannot be flushed


class Pool:
    """A fixed number of workers, started when first needed. `ask` may be called from any thread."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._idle: list[Worker] = []
        self._lock = threading.Lock()
        self._places = threading.Semaphore(size)

    def ask(self, items: Sequence[tuple[str, Sequence[str]]], timeout: float) -> list[Reply]:
        """One reply per item, in order."""
        replies: list[Reply] = ["failed"] * len(items)
        waiting = iter(range(len(items)))
        failures: list[BaseException] = []

        def serve() -> None:
            try:
                with self._places:
                    self._serve(items, replies, waiting, timeout)
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=serve, daemon=True) for _ in range(min(self.size, len(items)) - 1)]
        for thread in threads:
            thread.start()
        if items:
            serve()
        for thread in threads:
            thread.join()
        if failures:
            raise failures[0]
        return replies

    def _serve(
        self, items: Sequence[tuple[str, Sequence[str]]], replies: list[Reply], waiting: Iterator[int], timeout: float
    ) -> None:
        worker = self._take()
        try:
            while True:
                with self._lock:
                    n = next(waiting, None)
                if n is None:
                    break
                worker = worker or Worker()
                worker.wait_until_ready()
                replies[n] = worker.ask(*items[n], timeout)
                if replies[n] == "timeout" or not worker.alive:
                    worker.kill()
                    worker = None
        except BaseException:
            if worker is not None:
                worker.kill()
            raise
        with self._lock:
            if worker is not None:
                self._idle.append(worker)

    def _take(self) -> Worker | None:
        with self._lock:
            while self._idle:
                worker = self._idle.pop()
                if worker.alive:
                    return worker
                worker.kill()
        return None

    def pids(self) -> list[int]:
        """Process ids of the workers that wait for work."""
        with self._lock:
            return [worker.pid for worker in self._idle]

    def close(self) -> None:
        """Kill every worker."""
        with self._lock:
            while self._idle:
                self._idle.pop().kill()


@lru_cache(maxsize=1)
def shared_pool() -> Pool:
    """The pool of this process: two workers, or one on a single core. It ends with the process."""
    pool = Pool(min(2, os.cpu_count() or 1))
    atexit.register(pool.close)
    return pool
