"""`export`: writes pairs or samples to a file, or a policy as GGUF."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from loop.commands.options import OUTCOMES, ROW_ID, format_count, open_to_read, run_dir_argument, stored_config
from loop.errors import InputError
from loop.terminal.console import Console

if TYPE_CHECKING:
    from loop.config.schema import Config
    from loop.reporting import Reporter
    from store import Store


@click.command()
@run_dir_argument
@click.argument("what", type=click.Choice(["pairs", "samples", "gguf"]))
@click.option("--format", "form", type=click.Choice(["jsonl", "parquet"]), help="Default: what FILE's ending says.")
@click.option("-o", "--output", "file", required=True, metavar="FILE", type=click.Path(path_type=Path))
@click.option("--round", "rounds", type=ROW_ID, multiple=True, help="Only this round; may be repeated.")
@click.option("--rule", "rules", multiple=True, help="Only pairs of this rule; may be repeated.")
@click.option(
    "--outcome",
    "outcomes",
    type=click.Choice(OUTCOMES),
    multiple=True,
    help="Only samples of this outcome; may be repeated.",
)
@click.option("--card", is_flag=True, help="Of pairs and samples: write a card (README.md) beside FILE.")
@click.option("--policy", type=ROW_ID, metavar="N", help="Of gguf: its number; the best accepted one if left out.")
@click.option(
    "--llama-cpp",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="FOLDER",
    help="Of gguf: where llama.cpp's convert_hf_to_gguf.py is; else it is looked for on the PATH.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def export(
    run_dir: Path,
    what: str,
    form: str | None,
    file: Path,
    rounds: tuple[int, ...],
    rules: tuple[str, ...],
    outcomes: tuple[str, ...],
    card: bool,
    policy: int | None,
    llama_cpp: Path | None,
    as_json: bool,
) -> None:
    """Write pairs in TRL's preference format, samples as prompts and completions, or a policy as GGUF."""
    if what == "gguf":
        if form or rounds or rules or outcomes or card:
            raise InputError("of a policy there is only its GGUF file; --policy and --llama-cpp are its options")
        _export_gguf(run_dir, file, policy, llama_cpp, as_json=as_json)
        return
    if policy is not None or llama_cpp is not None:
        raise InputError("--policy and --llama-cpp are for gguf")
    if form is None and file.suffix not in (".jsonl", ".parquet"):
        raise InputError(f"-o {file}: end it in .jsonl or .parquet, or give --format")
    if (rules and what == "samples") or (outcomes and what == "pairs"):
        raise InputError("--rule is for pairs, --outcome is for samples")
    store = open_to_read(run_dir)
    config, say = stored_config(store, run_dir), Console(quiet=as_json)
    form = form or file.suffix.removeprefix(".")
    written = _export(store, config, what, file, form, rounds, rules or outcomes, say)
    if card:
        _write_card(store, config, what, file, form, written)
    store.close()
    click.echo(json.dumps({"written": written}) if as_json else format_count(written, what.removesuffix("s"), file))


def export_with_card(
    store: Store,
    config: Config,
    what: str,
    file: Path,
    form: str,
    rounds: Sequence[int],
    chosen: Sequence[str],
    say: Reporter,
) -> list[Path]:
    """Write pairs or samples and their card; returns both files."""
    written = _export(store, config, what, file, form, rounds, chosen, say)
    return [file, _write_card(store, config, what, file, form, written)]


def _export(
    store: Store,
    config: Config,
    what: str,
    file: Path,
    form: str,
    rounds: Sequence[int],
    chosen: Sequence[str],
    say: Reporter,
) -> int:
    from loop.reading.export import export_pairs, export_samples

    write = export_pairs if what == "pairs" else export_samples
    return write(store, config, file, form, rounds, chosen, say)


def _write_card(store: Store, config: Config, what: str, file: Path, form: str, written: int) -> Path:
    from loop.reading.dataset_card import FILE_NAME, dataset_card

    card = file.parent / FILE_NAME
    if card.exists() and "- ratchet" not in card.read_text(encoding="utf-8", errors="replace"):
        raise InputError(f"{card} is there and is no card of ours; write FILE into a folder of its own")
    card.write_text(dataset_card(store, config, what, form, file.name, written), encoding="utf-8")
    return card


def _export_gguf(run_dir: Path, file: Path, policy: int | None, llama_cpp: Path | None, *, as_json: bool) -> None:
    from loop.reading.gguf import write_gguf
    from store.gate import best_policy
    from store.rounds import get_policy

    store = open_to_read(run_dir)
    number = best_policy(store) if policy is None else policy
    directory = run_dir / get_policy(store, number).path
    store.close()
    if not directory.is_dir():
        raise InputError(f"the weights of policy {number} are not on the disk any more (retention.keep_every)")
    size = write_gguf(directory, file, llama_cpp)
    click.echo(
        json.dumps({"policy": number, "bytes": size}) if as_json else f"policy {number} in {file}, {size:,} bytes"
    )
