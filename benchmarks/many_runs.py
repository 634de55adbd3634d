"""Many runs of the program, by arm, numerics and seed; results are kept in a JSON file as they come.

A run that is in the file, or finished in its folder, is not made again; an interrupted one is continued.

Numerics are the settings that floating-point sums depend on. With another number of threads or another instruction
set the same seed gives another result, as on another machine. So a figure is a distribution.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

AVX2 = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}
NUMERICS: dict[str, dict[str, str]] = {
    "one_thread": {"OMP_NUM_THREADS": "1"},
    "two_threads": {"OMP_NUM_THREADS": "2"},
    "avx2": {"OMP_NUM_THREADS": "1", **AVX2},
    "avx2_two_threads": {"OMP_NUM_THREADS": "2", **AVX2},
}
"""Environments by name. The machine's own instruction set, or AVX2 alone."""


@dataclass(frozen=True)
class Run:
    """One run to make."""

    arm: str
    numerics: str
    seed: int

    @property
    def key(self) -> str:
        """Its name in the JSON file, and of its directory."""
        return f"{self.arm}-{self.numerics}-{self.seed}"

    @property
    def cores(self) -> int:
        """Cores that it keeps busy."""
        return int(NUMERICS[self.numerics]["OMP_NUM_THREADS"])


def parse_runs(texts: Iterable[str]) -> list[tuple[str, int]]:
    """(numerics, seed) of texts such as "one_thread:0-7". Exits where one is not of that form."""
    found = []
    for text in texts:
        name, _, seeds = text.partition(":")
        first, _, last = seeds.partition("-")
        if name not in NUMERICS or not first.isdecimal() or not (last or first).isdecimal():
            raise SystemExit(
                f"--runs {text}: write NUMERICS:SEED or NUMERICS:SEED-SEED; numerics: {', '.join(NUMERICS)}"
            )
        found += [(name, seed) for seed in range(int(first), int(last or first) + 1)]
    return found


class Results:
    """The JSON file of results, written again after every run."""

    def __init__(self, file: Path) -> None:
        self._file, self._lock = file, Lock()
        self.found: dict[str, dict[str, Any]] = json.loads(file.read_text()) if file.is_file() else {}

    def add(self, run: Run, result: dict[str, Any]) -> None:
        """Keep a run's result; the file is whole at every moment."""
        with self._lock:
            self.found[run.key] = result
            self._file.parent.mkdir(parents=True, exist_ok=True)
            temporary = self._file.with_suffix(".tmp")
            temporary.write_text(json.dumps(dict(sorted(self.found.items())), indent=1) + "\n")
            temporary.replace(self._file)
            print(f"{run.key}: done", file=sys.stderr, flush=True)


def make_runs(runs: Sequence[Run], make: Callable[[Run], object]) -> None:
    """Make as many runs at once as there are cores; runs with more threads come after the others."""
    for cores in sorted({run.cores for run in runs}):
        with ThreadPoolExecutor(max(1, (os.cpu_count() or 1) // cores)) as pool:
            list(pool.map(make, [run for run in runs if run.cores == cores]))


def run_program(run: Run, config: str, run_dir: Path, changes: Iterable[str]) -> None:
    """Start or continue a run to its end, in a process of its own."""
    flags = [flag for change in (*changes, f"run.seed={run.seed}") for flag in ("--set", change)]
    run_dir.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "run_loop.py", "run", "--config", config, "--run-dir", str(run_dir), "--quiet", *flags]
    subprocess.run(command, check=True, env={**os.environ, **NUMERICS[run.numerics]})
