"""`init`: writes a configuration for the user's data, model, teacher and machine, and shows its plan."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from loop.errors import InputError
from loop.terminal.console import Console, table_width

if TYPE_CHECKING:
    from loop.planning.machine import Machine
    from loop.planning.model_shape import ModelShape
    from loop.planning.proposal import Proposal, Setting, Tables
    from loop.questions.scan import Scan
    from policies.encoding import Encoder

SHOWN = 10
"""Questions that are shown as the model will see them."""

HUB_ROWS = 200
"""Rows of each split that are read of a set of the hub: to read all of it is to download it."""

NO_TEACHER = "none"


@dataclass(frozen=True)
class Wishes:
    """The user's choices besides the data, from options or from answers to questions."""

    model: str
    teacher: str
    teacher_model: str
    style: str | None
    host_gib: float | None
    card_gib: tuple[float, ...]


@click.command()
@click.argument("file", metavar="[FILE]", type=click.Path(path_type=Path, dir_okay=False), default="run.toml")
@click.option("--data", default="", metavar="PATH_OR_NAME", help="A file, a folder, a set of the hub, a published set.")
@click.option("--name", metavar="NAME", help="The set's configuration (subset).")
@click.option("--column", "columns", multiple=True, metavar="PART=COLUMN", help="For example question=prompt.")
@click.option("--split", "splits", multiple=True, metavar="SPLIT=NAME", help="For example test=validation.")
@click.option("--judge", metavar="JUDGE", help="A judge with its options (docs/judges.md).")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Rows of each split at most.")
@click.option("--model", default="", metavar="DIR_OR_ID", help="The model; if left out the shipped one.")
@click.option("--teacher", default="", metavar="URL", help="An OpenAI-compatible endpoint, or none.")
@click.option("--teacher-model", default="gpt-4o", show_default=True, metavar="NAME", help="Its model.")
@click.option("--style", type=click.Choice(["cot", "direct"]), help="Reason before the answer, or answer at once.")
@click.option("--host-gib", type=float, metavar="GIB", help="Memory of the machine, where it is not this one.")
@click.option("--card-gib", type=float, multiple=True, metavar="GIB", help="Memory of a GPU of it; once for each.")
@click.option("--yes", is_flag=True, help="Ask nothing: take what is proposed.")
@click.option("--force", is_flag=True, help="Write over a FILE that is there.")
def init(
    file: Path,
    data: str,
    name: str | None,
    columns: tuple[str, ...],
    splits: tuple[str, ...],
    judge: str | None,
    limit: int | None,
    yes: bool,
    force: bool,
    **options: Any,
) -> None:
    """Write a configuration for your own data: it looks at the rows, and proposes the rest.

    FILE is run.toml where none is named. On a terminal it asks for what no option says; with --yes it asks nothing.
    """
    from loop.commands.init_data import DataWishes, describe_data

    asks = not yes and sys.stdin.isatty()
    if file.exists() and not force:
        raise InputError(f"{file} is there already; name another file, or add --force to write over it")
    if not file.absolute().parent.is_dir():
        raise InputError(f"{file}: {file.absolute().parent} is no directory; make it first")
    if not data and not asks:
        raise InputError("--data is missing: name a file, a folder, a set of the hub, or a published set")
    if not yes and not asks:
        raise InputError("standard input is no terminal to ask on; add --yes to take what is proposed")
    data = data or click.prompt("Data (a file, a folder, a set of the hub, a published set)")
    wishes = _asked_for(Wishes(**options), asks=asks)
    console = Console()
    encoder, shape = _looked_at(wishes.model)
    described = describe_data(DataWishes(data, name, columns, splits, judge, limit), console.say, asks=asks)
    scan = _scanned(described.config, console)
    if any(scan.questions.sizes) and not encoder.is_vision:
        raise InputError(f"--model {wishes.model}: reads text only, but questions have images; take a vision model")
    machine = _machine(wishes, file)
    tables = _given_tables(wishes, described.settings, shape)
    proposal = _proposal(tables, encoder, shape, scan, machine, described.prompt)
    if asks and not click.confirm(f"Write {file}?", default=True):
        raise click.Abort
    _write(file, proposal)
    _show(file, proposal, scan, machine, encoder, console)


def _asked_for(wishes: Wishes, *, asks: bool) -> Wishes:
    """Model, teacher and machine, asked for where no option says them."""
    from loop.config.shipped import shipped_folder

    shipped = str(shipped_folder() / "models" / "shapes_2m")
    if asks:
        model = wishes.model or click.prompt("Model (a directory or hub id)", default=shipped)
        teacher = wishes.teacher or click.prompt("Teacher (an endpoint's URL, or none)", default=NO_TEACHER)
        wishes = replace(_asked_for_machine(wishes), model=model, teacher=teacher)
    model = wishes.model or shipped
    if Path(model).expanduser().is_dir():
        model = str(Path(model).expanduser().resolve())
    return replace(wishes, model=model, teacher=wishes.teacher or NO_TEACHER)


def _asked_for_machine(wishes: Wishes) -> Wishes:
    from loop.planning.machine import this_machine
    from loop.planning.memory import GIB

    if wishes.host_gib is not None or wishes.card_gib:
        return wishes
    here = this_machine(Path())
    memory = "unknown" if here.host is None else f"{here.host / GIB:.0f}"
    cards = ", ".join(f"{card / GIB:.0f}" for card in here.cards) or "none"
    said = click.prompt(f"Machine (this: {memory} GiB free, GPUs: {cards}; or GIB,GPU_GIB,...)", default="this")
    if said == "this":
        return wishes
    try:
        host, *sizes = (float(part) for part in said.split(","))
    except ValueError as error:
        raise InputError(f"machine {said!r}: write GiB with commas between, for example 128,80") from error
    return replace(wishes, host_gib=host, card_gib=tuple(sizes))


def _machine(wishes: Wishes, file: Path) -> Machine:
    """This machine, or the one that was described; the disk is this one's."""
    from loop.planning.machine import Machine, this_machine
    from loop.planning.memory import GIB

    here = this_machine(file.absolute().parent)
    if wishes.host_gib is None and not wishes.card_gib:
        return here
    host = here.host if wishes.host_gib is None else int(wishes.host_gib * GIB)
    return Machine(host, tuple(int(card * GIB) for card in wishes.card_gib), here.disk)


def _looked_at(model: str) -> tuple[Encoder, ModelShape]:
    """Read the model's tokenizer and shape, without its weights."""
    from transformers.utils import logging

    from loop.planning.model_shape import read_shape
    from policies.encoding import Encoder

    logging.set_verbosity_error()  # its remarks on configurations are not for the reader of a proposal
    return Encoder(model, _no_image), read_shape(model)


def _no_image(digest: str) -> Any:
    raise AssertionError(f"init asked for image {digest}: sizes are enough")


def _scanned(config: Any, console: Console) -> Scan:
    from loop.questions.registry import SOURCES
    from loop.questions.scan import scan_source

    if config.on_hub:
        console.say(f"reading the first {HUB_ROWS} rows of each split")
        config = config.model_copy(update={"limit": min(HUB_ROWS, config.limit or HUB_ROWS)})
    return scan_source(config, SOURCES[config.source], SHOWN, console)


def _given_tables(wishes: Wishes, questions: dict[str, Setting], shape: ModelShape) -> Tables:
    from loop.planning.proposal import SMALL, Setting

    taught = wishes.teacher != NO_TEACHER
    teacher = {"enabled": Setting(False)}
    if taught:
        teacher = {"base_url": Setting(wishes.teacher), "model": Setting(wishes.teacher_model)}
    style = wishes.style or ("direct" if shape.count < SMALL and not taught else "cot")
    why = "reasons first, then the answer" if style == "cot" else "answers at once"
    return {
        "policy": {
            "model": Setting(wishes.model, f"{shape.count:,} parameters"),
            "dtype": Setting("bfloat16" if wishes.card_gib or _has_card() else "float32"),
        },
        "questions": dict(questions),
        "teacher": teacher,
        "sampling": {"style": Setting(style, why)},
    }


def _has_card() -> bool:
    import torch

    return bool(torch.cuda.is_available())


def _proposal(
    tables: Tables, encoder: Encoder, shape: ModelShape, scan: Scan, machine: Machine, prompt: str | None
) -> Proposal:
    from loop.planning.proposal import propose
    from loop.questions.split_table import require_splits

    require_splits(scan.rows, "test")
    return propose(tables, encoder, shape, scan.questions, scan.answers, scan.rows["train"], machine, prompt)


def _write(file: Path, proposal: Proposal) -> None:
    from loop.commands.init_file import configuration_text

    file.write_text(configuration_text(file, proposal.tables), encoding="utf-8")


def _show(file: Path, proposal: Proposal, scan: Scan, machine: Machine, encoder: Encoder, console: Console) -> None:
    """Show the dry run of the written file, ten prompts with the judge's verdicts, and the next commands."""
    from rich.console import Console as Terminal

    from loop.commands.dry_run import describe_plan
    from loop.config.load import load_config
    from loop.questions.prompt_view import PromptView
    from loop.terminal.inspect_view import example_parts

    config = load_config(str(file), [])
    for line in describe_plan(config, Path("runs"), seen=scan, machine=machine):
        console.say(line)
    view, terminal = PromptView(config, encoder), Terminal(width=table_width() or 160, highlight=False)
    wrong = 0
    for question in scan.first:
        example = view.example_of(question, config.sampling.style)
        pictures = dict(zip(question.digests, question.images, strict=True))
        for part in example_parts(terminal, example, pictures.__getitem__):
            terminal.print(part)
        wrong += example.verdict not in ("correct", "")
    if wrong:
        console.say(
            f"warning: judge {config.questions.judge} does not accept {wrong} of these {len(scan.first)} accepted"
            " answers themselves; look at questions.columns, answer_after and judge"
        )
    if not proposal.fits:
        console.say(
            "warning: no key makes this fit into the machine's memory; take a smaller model or a larger machine"
        )
    console.say(f"{file} is written. Next:")
    console.say(f"  {_program()} inspect {file} --sample 32")
    console.say(f"  {_program()} run --config {file} --run-dir runs/{file.stem}")


def _program() -> str:
    """The words with which this program was called."""
    return "ratchet" if Path(sys.argv[0]).name == "ratchet" else f"{_python()} {sys.argv[0]}"


def _python() -> str:
    """The Python that runs this: `python` on the PATH may lack the packages."""
    here = os.path.relpath(sys.executable)
    return here if len(here) < len(sys.executable) else sys.executable
