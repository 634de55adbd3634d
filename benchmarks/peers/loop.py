"""The loop itself, from a copy of the start; with `--restart` its program is started again for each round.

Its gate counts as evaluation and is not in the seconds. The engine's start is in the first round, with `--restart` in
every round.
"""

import subprocess
import sys
from contextlib import AbstractContextManager, closing, nullcontext
from itertools import count
from pathlib import Path

from benchmarks.peers.clock import Clock, until
from benchmarks.peers.options import copied, parse
from loop.config.run_identity import stored_config_with
from loop.context import Stopped
from loop.controller import run
from loop.session import Parts
from loop.terminal.console import Console
from store import open_store

SECONDS = "SELECT sum(seconds) FROM phase_time WHERE round BETWEEN 1 AND ? AND phase NOT IN ('evaluate', 'gate')"
EVALUATED = "SELECT sum(seconds) FROM phase_time WHERE round = ? AND phase IN ('evaluate', 'gate')"
CHAINS = "SELECT count(*) FROM sample WHERE author = 'policy' AND round BETWEEN 1 AND ?"
ACCURACY = """
SELECT avg(outcome = 'correct') FROM evaluation JOIN round ON policy = candidate_policy
WHERE number = ? AND split = 'test' AND style = 'cot'"""


def main() -> None:
    """Do rounds until the policy is accurate enough or the time is over."""
    options = parse(__doc__, ("--restart",))
    run_dir, clock = copied(options.start, options.out), Clock()

    def report(number: int) -> bool:
        with closing(open_store(run_dir, read_only=True)) as store:
            if not options.restart:
                clock.seconds = store.value(SECONDS, number)
            correct = store.value(ACCURACY, number)
            clock.report(number, store.value(CHAINS, number), correct)
        return until(number, clock, correct, options.seconds, options.enough)

    def around_phase(number: int, phase: str) -> AbstractContextManager[None]:
        if phase == "sample" and number > 1 and not report(number - 1):
            raise Stopped
        return nullcontext()

    if not options.restart:
        with closing(open_store(run_dir, read_only=True)) as store:
            config = stored_config_with(store, [*options.overrides, "run.rounds=0"])
        assert config is not None
        run(config, run_dir, Console(quiet=True), parts=Parts(around_phase=around_phase))
        return
    for number in count(1):
        with clock.running():
            _one_round(run_dir, number, options.overrides)
        with closing(open_store(run_dir, read_only=True)) as store:
            clock.seconds -= store.value(EVALUATED, number)
        if not report(number):
            return


def _one_round(run_dir: Path, number: int, overrides: list[str]) -> None:
    command = [sys.executable, "run_loop.py", "run", "--run-dir", str(run_dir), "--rounds", str(number), "--quiet"]
    subprocess.run([*command, *(part for key in overrides for part in ("--set", key))], check=True)


if __name__ == "__main__":
    main()
