"""The command line that all peers share."""

import argparse
import logging
import shutil
from collections.abc import Sequence
from pathlib import Path


def parse(what: str | None, switches: Sequence[str] = ()) -> argparse.Namespace:
    """Read a peer's options from its command line."""
    parser = argparse.ArgumentParser(description=what)
    parser.add_argument("start", type=Path, help="a run that has its cold start")
    parser.add_argument("--out", type=Path, help="where the loop keeps its run")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--seconds", type=float, default=1800, help="no round begins after so many, evaluation excluded"
    )
    parser.add_argument("--enough", type=float, default=0.95, help="accuracy that ends it")
    parser.add_argument("--reported", type=int, default=1000, help="test questions")
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="A.B=VALUE", help="of the loop")
    for switch in switches:
        parser.add_argument(switch, action="store_true")
    logging.disable(logging.WARNING)
    return parser.parse_args()


def copied(start: Path, run_dir: Path) -> Path:
    """Copy the start, so that the arm continues a run of its own."""
    shutil.rmtree(run_dir, ignore_errors=True)
    shutil.copytree(start, run_dir, symlinks=True)
    return run_dir
