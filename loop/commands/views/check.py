"""`check`: verifies the store and the weights on disk, and names each fault by its row; changes nothing."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from loop.commands.exits import FAILURE
from loop.commands.options import run_dir_argument
from loop.terminal.console import Console
from loop.terminal.escape import block
from store import open_store

if TYPE_CHECKING:
    from store import Store
    from store.maintenance.damage import Fault


DTYPES = ("float32", "bfloat16", "float16")


@click.command()
@run_dir_argument
@click.option("--json", "as_json", is_flag=True, help="One JSON object with the list of faults.")
@click.option("--serve", is_flag=True, help="DIR is an exported model: prove that vLLM serves it.")
@click.option("--dtype", default="float32", show_default=True, type=click.Choice(DTYPES), help="vLLM's, with --serve.")
@click.option("--tolerance", default=0.02, show_default=True, help="Nats per token, with --serve.")
def check(run_dir: Path, as_json: bool, serve: bool, dtype: str, tolerance: float) -> None:
    """Verify the store and the weights on disk; exit code 1 if anything is wrong. Changes nothing."""
    right = "nothing wrong"
    if serve:
        from loop.commands.views.check_model import check_model

        faults, right = check_model(run_dir, dtype, tolerance)
    else:
        store = open_store(run_dir, read_only=True)
        faults = check_run(store, run_dir, Console(quiet=as_json))
        store.close()
    if as_json:
        click.echo(json.dumps({"faults": faults}))
    else:
        click.echo(block("\n".join(faults)) if faults else f"{run_dir}: {right}")
    if faults:
        sys.exit(FAILURE)


def check_run(
    store: Store, run_dir: Path, console: Console, digest_of: Callable[[Path], str] | None = None
) -> list[Fault]:
    """Every fault of the store and of the weights beside it; `digest_of` None is `policies.weights.weights_sha256`."""
    from store.maintenance.check import find_faults
    from store.maintenance.damage import guarded

    with console.bar("checking", 0, "step") as bar:

        def step(what: str) -> None:
            bar.note(now=what)
            bar.update()

        faults = list(find_faults(store, step))
        step("weights")
        return faults + list(guarded("weights", _weights(store, run_dir, digest_of)))


def _weights(store: Store, run_dir: Path, digest_of: Callable[[Path], str] | None) -> Iterator[Fault]:
    """Faults of the weights; what a run publishes or deletes meanwhile is none."""
    from policies import PolicyError
    from policies.weights import weights_sha256
    from store.rounds import is_deleted

    found = sorted(place for place in (run_dir / "policies").glob("*") if place.is_dir() and not place.is_symlink())
    for row in store.rows("SELECT number, sha256, path FROM policy WHERE deleted IS NULL ORDER BY number"):
        directory = run_dir / row["path"]
        try:
            digest = (digest_of or weights_sha256)(directory)
        except (PolicyError, OSError):
            if not is_deleted(store, row["number"]):
                yield f"policy {row['number']}: {directory} holds no weights; put them back"
            continue
        if digest != row["sha256"] and not is_deleted(store, row["number"]):
            yield (
                f"policy {row['number']}: {directory} holds weights with sha256 {digest[:12]}…, the store recorded"
                f" {row['sha256'][:12]}…"
            )
    accounted = _being_published(store, run_dir)  # before the rows: what is recorded meanwhile is in one of the two
    accounted |= {run_dir / row["path"] for row in store.rows("SELECT path FROM policy")}
    for directory in found:
        if directory not in accounted and directory.is_dir():
            yield f"{directory.relative_to(run_dir)}: belongs to no policy (left by a crash; it may be deleted)"


def _being_published(store: Store, run_dir: Path) -> set[Path]:
    """The directories that the open round writes; a session that continues the round replaces what a crash left."""
    from policies.weights import unfinished
    from store.rounds import latest_round, next_policy_number, policy_path

    state = latest_round(store)
    if state is None or state.phase == "done":
        return set()
    directory = run_dir / policy_path(next_policy_number(store))
    return {directory, unfinished(directory)}
