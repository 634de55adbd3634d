"""Disturbances of a run: readers, requests, backups, processes that hold the store, a changed clock, a full disk."""

import random
import shutil
import sqlite3
import subprocess
import threading
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from benchmarks.soak.machine import Machine
from benchmarks.soak.teacher import FaultyTeacher
from tests.support.command_line import PROJECT, command

COMMAND_LIMIT_S = 300
"""A command that takes longer hangs."""

FULL_CODE, FULL = 1, "the disk is full or failing"
"""How a command ends that meets the full disk."""

CLOCKS_S = (0, 0, 3600, -3600, 86400 * 400, -86400 * 40, -30, 30)
FLUSHES_MS = (0, 0, 0, 5, 30, 200)
WRITES_US = (0, 0, 0, 50, 500)


class Disturbances:
    """Threads that disturb one run until the context is left. `counts` has their actions, `failures` the faults.

    Every command runs in its own process, as a user's does.
    """

    def __init__(self, run_dir: Path, machine: Machine, teacher: FaultyTeacher, seed: int) -> None:
        self.counts: Counter[str] = Counter()
        self.failures: list[str] = []
        self._run_dir, self._machine, self._teacher = run_dir, machine, teacher
        self._drawn = random.Random(seed)
        self._over = threading.Event()
        work = (self._read, self._serve, self._back_up, self._hold, self._change_machine)
        self._threads = [threading.Thread(target=self._work, args=(each,)) for each in work]

    @property
    def backup(self) -> Path | None:
        """The latest backup."""
        path = self._run_dir.with_name("backup")
        return path if path.exists() else None

    def __enter__(self) -> "Disturbances":
        self._teacher.share = 0.3
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()
        self._teacher.share = 0.0
        self._machine.clock(0)
        self._machine.slow(0, 0)

    def command(self, name: str, *arguments: object, allowed: tuple[int, ...] = (0,)) -> None:
        """Run a command of the project to its end; another exit code or a traceback is a failure."""
        words = command(name, *arguments)
        try:
            done = subprocess.run(
                words,
                capture_output=True,
                text=True,
                cwd=PROJECT,
                check=False,
                timeout=COMMAND_LIMIT_S,
                env=self._machine.environment,
            )
        except subprocess.TimeoutExpired:
            self.failures.append(f"{name}: took longer than {COMMAND_LIMIT_S} s")
            return
        self.counts[name] += 1
        if done.returncode == FULL_CODE and FULL in done.stderr and "Traceback" not in done.stderr:
            self.counts["commands that met the full disk"] += 1
            return
        if done.returncode not in allowed or "Traceback" in done.stderr:
            self.failures.append(f"{name}: exit {done.returncode}: {done.stderr[-1500:]}{done.stdout[-500:]}")

    def _work(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:  # in a thread it would be lost
            self.failures.append(f"soak: {type(error).__name__}: {error}")

    def _rests(self, low: float, high: float) -> bool:
        """Wait for a while; return whether to continue."""
        return not self._over.wait(self._drawn.uniform(low, high))

    def _wait_for_run(self) -> bool:
        while not self._has_run():
            if self._over.wait(0.2):
                return False
        return True

    def _has_run(self) -> bool:
        try:
            with closing(self._open(1)) as connection:
                return bool(connection.execute("SELECT count(*) FROM round").fetchone()[0])
        except sqlite3.Error:
            return False

    def _open(self, timeout: float) -> sqlite3.Connection:
        path = f"file:{self._run_dir / 'store.db'}?mode=rw"
        return sqlite3.connect(path, uri=True, timeout=timeout, isolation_level=None)

    def _read(self) -> None:
        page = self._run_dir.with_name("report.html")
        if not self._wait_for_run():
            return
        while self._rests(3, 12):
            match self._drawn.choice(("status", "status", "log", "show", "report", "check")):
                case "status":
                    self.command("status", self._run_dir, "--json", allowed=(0, 3, 4, 5))
                case "show":
                    self.command("show", self._run_dir, "question", self._drawn.randint(1, 300))
                case "report":
                    self.command("report", self._run_dir, "-o", page)
                case other:
                    self.command(other, self._run_dir)

    def _serve(self) -> None:
        if not self._wait_for_run():
            return
        words = command("serve", self._run_dir, "--port", "0")
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd=PROJECT) as process:
            try:
                assert process.stdout is not None
                address = process.stdout.readline().split(" at ")[1].split()[0]
                while self._rests(0.2, 2):
                    self._ask(
                        address + self._drawn.choice(("", "questions", f"questions/{self._drawn.randint(1, 99)}"))
                    )
                if process.poll() is not None:
                    self.failures.append(f"serve: ended by itself, exit {process.returncode}")
            finally:
                process.terminate()

    def _ask(self, url: str) -> None:
        try:
            with urllib.request.urlopen(url, timeout=COMMAND_LIMIT_S) as reply:  # noqa: S310 (loopback)
                reply.read()
                self.counts["request"] += 1
        except urllib.error.HTTPError as error:
            self.failures.append(f"serve: {url.split('/', 3)[-1]!r}: {error.code} {error.read()[:500]!r}")
        except OSError as error:
            self.failures.append(f"serve: {url.split('/', 3)[-1]!r}: {error}")

    def _back_up(self) -> None:
        new, kept = (self._run_dir.with_name(name) for name in ("new_backup", "backup"))
        if not self._wait_for_run():
            return
        while self._rests(10, 40):
            self.command("backup", self._run_dir, new)
            if new.exists():
                self.command("check", new)
                shutil.rmtree(kept, ignore_errors=True)
                new.rename(kept)

    def _hold(self) -> None:
        """Writers that hold the store for up to 12 s, and readers with a transaction of up to 30 s."""
        if not self._wait_for_run():
            return
        while self._rests(5, 30):
            writes = self._drawn.random() < 0.6
            with closing(self._open(60)) as connection:
                connection.execute("BEGIN IMMEDIATE" if writes else "BEGIN")
                connection.execute("SELECT count(*) FROM sample").fetchone()
                self._rests(0.5, 12 if writes else 30)
                connection.execute("ROLLBACK")
            self.counts["holds the store" if writes else "reads in one transaction"] += 1

    def _change_machine(self) -> None:
        while self._rests(1, 10):
            self._machine.clock(self._drawn.choice(CLOCKS_S))
            self._machine.slow(self._drawn.choice(FLUSHES_MS), self._drawn.choice(WRITES_US))
            self.counts["jumps of the clock and changes of the disk"] += 1
