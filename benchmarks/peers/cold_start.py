"""Make a run that ends with its cold start: `python -m benchmarks.peers.cold_start RUN_DIR`."""

import argparse
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from loop.config.load import load_config
from loop.context import Stopped
from loop.controller import run
from loop.session import Parts
from loop.terminal.console import Console


def cold_start_alone(number: int, phase: str) -> AbstractContextManager[None]:
    """Stop where the first round would begin."""
    if number:
        raise Stopped
    return nullcontext()


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run_dir", type=Path)
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="A.B=VALUE")
    options = parser.parse_args()
    config = load_config("easy_vqa", [*options.overrides, "run.rounds=0"])
    run(config, options.run_dir, Console(quiet=True), parts=Parts(around_phase=cold_start_alone))


if __name__ == "__main__":
    main()
