"""`push`: a policy, or a run's pairs or samples, to the hub."""

from __future__ import annotations

import json
import os
import tempfile
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import click

from loop.commands.options import ROW_ID, open_to_read, run_dir_argument, stored_config
from loop.errors import InputError, LoopError
from loop.terminal.console import Console

if TYPE_CHECKING:
    from collections.abc import Sequence

    from loop.config.schema import Config
    from loop.reading.hub_files import HubFile
    from store import Store

KEY = "HF_TOKEN"


@click.command()
@run_dir_argument
@click.argument("repository", metavar="OWNER/NAME")
@click.option("--policy", type=ROW_ID, metavar="N", help="Its number; the best accepted one if left out.")
@click.option("--adapter", is_flag=True, help="Its LoRA adapter alone, not the merged weights.")
@click.option("--dataset", type=click.Choice(["pairs", "samples"]), help="Not a policy, but these, as a data set.")
@click.option("--private", is_flag=True, help="Make a repository that is new a private one.")
@click.option("--dry-run", is_flag=True, help="List the files, and upload nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def push(
    run_dir: Path,
    repository: str,
    policy: int | None,
    adapter: bool,
    dataset: str | None,
    private: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Upload a policy (weights, processor, card, recipe, accuracy log) to the hub, in one commit.

    The key is read from the environment variable HF_TOKEN, and from nowhere else.
    """
    if dataset is not None and (policy is not None or adapter):
        raise InputError("--policy and --adapter are for a policy; leave them out with --dataset")
    if repository.count("/") != 1 or not all(repository.split("/")):
        raise InputError(f"{repository}: name the repository as OWNER/NAME")
    key = os.environ.get(KEY)
    if not key and not dry_run:
        raise InputError(f"{KEY} is not set: put a key of the hub that may write into it, or look first with --dry-run")
    console = Console(quiet=as_json)
    with closing(open_to_read(run_dir)) as store, tempfile.TemporaryDirectory() as folder:
        config = stored_config(store, run_dir)
        files = _files(store, config, policy, dataset, Path(folder), console, adapter=adapter)
        kind = "model" if dataset is None else "dataset"
        url = None if dry_run else _upload(repository, kind, files, str(key), private=private)
    listed = [{"path": file.path, "bytes": size} for file, size in files]
    if as_json:
        click.echo(json.dumps({"repository": repository, "type": kind, "files": listed, "url": url}))
        return
    for file, size in files:
        click.echo(f"{size:>14,}  {file.path}")
    total = sum(size for _, size in files)
    said = f"{len(files)} files, {total:,} bytes"
    click.echo(f"{said}; nothing was uploaded (--dry-run)" if dry_run else f"{said} in {url}")


def _files(
    store: Store,
    config: Config,
    policy: int | None,
    dataset: str | None,
    folder: Path,
    console: Console,
    *,
    adapter: bool,
) -> list[tuple[HubFile, int]]:
    """Each file with its size."""
    from loop.reading.hub_files import HubFile, policy_files

    if dataset is None:
        from store.gate import best_policy

        number = best_policy(store) if policy is None else policy
        files = policy_files(store, config, number, adapter=adapter)
    else:
        from loop.commands.views.export import export_with_card

        made = export_with_card(store, config, dataset, folder / f"{dataset}.parquet", "parquet", (), (), console)
        files = [HubFile(path.name, path) for path in made]
    return [(file, file.size) for file in files]


def _upload(repository: str, kind: str, files: Sequence[tuple[HubFile, int]], key: str, *, private: bool) -> str:
    from huggingface_hub import CommitOperationAdd, HfApi
    from huggingface_hub.errors import HfHubHTTPError

    api = HfApi(endpoint=os.environ.get("HF_ENDPOINT"), token=key)
    try:
        api.create_repo(repository, repo_type=kind, private=private or None, exist_ok=True)
        operations = [CommitOperationAdd(file.path, file.content) for file, _ in files]
        done = api.create_commit(repository, operations, commit_message="Upload by ratchet", repo_type=kind)
    except HfHubHTTPError as error:
        status = error.response.status_code
        cure = {401: f"look at {KEY}", 403: f"{KEY} may not write there"}.get(status, "try again later")
        raise LoopError(f"the hub refuses {repository} (status {status}): {cure}") from error
    except Exception as error:  # of the network, whatever library meets it
        raise LoopError(
            f"{repository} cannot be uploaded ({type(error).__name__}: {' '.join(str(error).split())[:200]}); nothing"
            " was committed, try again"
        ) from error
    return str(done.commit_url)
