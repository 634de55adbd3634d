"""A run whose controller is ended in many ways and started again until the run is finished."""

import os
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.soak.comparison import state_of
from benchmarks.soak.machine import Machine
from tests.support.command_line import PROJECT, command

SESSION_LIMIT_S = 900
"""A session that takes longer hangs."""

ENDING_LIMIT_S = 180
"""So long may a session take from SIGTERM or SIGHUP to its end."""

FULL_S = 20
"""A full disk has room again after so long, whether the session ended by it or not."""

EARLY = 2
"""Sessions that are ended within their first phase, of those that are ended at all."""

ENDINGS = ("SIGKILL",) * 6 + ("SIGTERM", "SIGTERM", "SIGHUP", "full disk", "full disk")
FINISHED, FULL_CODE, STOPPED = 0, 1, 130


class HangError(Exception):
    """A session hangs."""


class Controller:
    """Starts the run's sessions and ends them. `counts` has the events, `failures` the faults."""

    def __init__(self, run_dir: Path, recipe: Path, machine: Machine, seed: int) -> None:
        self.run_dir, self._recipe, self._machine = run_dir, recipe, machine
        self._drawn = random.Random(seed)
        self.log = run_dir.with_name("controller.log")
        self.counts: Counter[str] = Counter()
        self.ended_in: dict[str, Counter[str]] = {}
        self.failures: list[str] = []
        self._log_from = 0

    def finish(self, rounds: int, endings: int, in_round: Callable[[], object] = lambda: None) -> None:
        """Run up to round `rounds`; end at most `endings` sessions before they are done, the first `EARLY` soon.

        `in_round` is called once the last round has begun. Raises HangError.
        """
        left, called = endings, False
        while True:
            process = self._start(rounds)
            moment = self._drawn_moment(endings - left < EARLY) if left else None
            deadline = time.monotonic() + SESSION_LIMIT_S
            while process.poll() is None and time.monotonic() < deadline:
                if not called and state_of(self.run_dir)[0].startswith(f"{rounds} "):
                    called = True
                    in_round()
                if moment is not None and moment():
                    break
                time.sleep(0.05)
            if process.poll() is None and moment is not None and time.monotonic() < deadline:
                left -= 1
                self._end(process, self._drawn.choice(ENDINGS))
            elif process.poll() is None:
                self._hangs(process, f"a session takes longer than {SESSION_LIMIT_S} s")
            elif process.returncode == FINISHED:
                return
            else:
                self._fails(process)

    def _start(self, rounds: int) -> "subprocess.Popen[bytes]":
        self.counts["sessions"] += 1
        words = command("run", "--run-dir", self.run_dir, "--config", self._recipe, "--rounds", rounds, "--json")
        with self.log.open("ab") as log:
            self._log_from = log.tell()
            return subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=PROJECT,
                env=self._machine.environment,
                start_new_session=True,
            )

    def _drawn_moment(self, early: bool) -> Callable[[], bool]:
        """Draw when a session is ended: soon after its start, or some time after its n-th change of phase.

        `early`: within its first phase, so that even on a fast machine it has not ended by itself.
        """
        if not early and self._drawn.random() < 0.15:
            at = time.monotonic() + self._drawn.uniform(0, 20)
            return lambda: time.monotonic() > at
        _, before = state_of(self.run_dir)
        changes, rest = self._drawn.choice((0, 0, 1, 1, 2, 2, 3, 4, 5, 6)), self._drawn.uniform(0, 3)
        if early:
            changes, rest = 0, rest / 6
        seen: list[str] = []
        since: list[float] = []

        def reached() -> bool:
            phase, sessions = state_of(self.run_dir)
            if sessions > before and (not seen or seen[-1] != phase):
                seen.append(phase)
            if len(seen) > changes and not since:
                since.append(time.monotonic())
            return bool(since) and time.monotonic() > since[0] + rest

        return reached

    def _end(self, process: "subprocess.Popen[bytes]", ending: str) -> None:
        phase = self._phase(process)
        self.ended_in.setdefault(ending, Counter())[phase] += 1
        if ending == "SIGKILL":
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return
        if ending == "full disk":
            failed, until = self._machine.full(True), time.monotonic() + FULL_S
            while process.poll() is None and time.monotonic() < until:
                time.sleep(0.05)
            self.counts["writes to a full disk"] += self._machine.full(False) - failed
            if process.poll() is None:  # it wrote nothing meanwhile; or it goes on
                ending = "SIGTERM"
        if ending != "full disk":
            process.send_signal(signal.Signals[ending])
        try:
            process.wait(ENDING_LIMIT_S)
        except subprocess.TimeoutExpired:
            self._hangs(process, f"{ending} in phase {phase}: no end within {ENDING_LIMIT_S} s")
        allowed = {
            "full disk": (FULL_CODE, FINISHED),
            "SIGTERM": (STOPPED, FINISHED, -signal.SIGTERM, FULL_CODE),
            "SIGHUP": (STOPPED, FINISHED, -signal.SIGHUP),
        }[ending]
        if process.returncode not in allowed or "Traceback" in self._tail():
            self._fails(process)

    def _phase(self, process: "subprocess.Popen[bytes]") -> str:
        return state_of(self.run_dir)[0].split()[-1]

    def _hangs(self, process: "subprocess.Popen[bytes]", what: str) -> None:
        os.killpg(process.pid, signal.SIGABRT)  # faulthandler, where it is on, writes what every thread does
        time.sleep(2)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        self.failures.append(f"{what}; {self._tail()}")
        raise HangError(what)

    def _fails(self, process: "subprocess.Popen[bytes]") -> None:
        self.failures.append(f"a session ended with {process.returncode}: {self._tail()}")
        if len(self.failures) > 5:
            raise HangError("the run cannot go on")

    def _tail(self) -> str:
        """The last part of this session's output."""
        with self.log.open("rb") as log:
            log.seek(max(self._log_from, self.log.stat().st_size - 3000))
            return log.read().decode(errors="replace")

    def summary(self) -> dict[str, Any]:
        """The events of the run, counted, for the file of results."""
        return {
            **self.counts,
            "ended_by": {ending: dict(sorted(phases.items())) for ending, phases in sorted(self.ended_in.items())},
        }
