"""The command line of Ratchet: `python run_loop.py COMMAND`, or `ratchet COMMAND` once installed.

What a command needs is imported where it runs: the ones that only read answer in well under a second.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from loop.console import Console, console_for, table_width
from loop.errors import InputError
from loop.exits import FAILURE, INTERRUPTED, run_command_line
from loop.terminal_text import block
from store import open_store
from store.lock import lock_holder

if TYPE_CHECKING:
    from loop.config import Config
    from store import Store

OUTCOMES = ("correct", "wrong", "unparsable", "truncated", "judge_error")

ROW_ID = click.IntRange(0, 2**63 - 1)
"""What SQLite can hold."""

run_dir_argument = click.argument("run_dir", metavar="DIR", type=click.Path(path_type=Path, file_okay=False))


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
def cli() -> None:
    """Ratchet: iterative self-improvement for vision-language and language models.

    Rounds of sampling, judging, DPO, hot swap and evaluation; a candidate that is worse is rolled back.
    """


@cli.command()
@click.option("--config", required=True, metavar="NAME_OR_FILE", help="A name in configs/, or a TOML file.")
@click.option("--recipe", metavar="NAME_OR_FILE", help="A name in configs/recipes/, in place of the configuration's.")
@click.option("--run-dir", type=click.Path(path_type=Path), help="Where the run is kept.")
@click.option("--rounds", type=click.IntRange(min=0), help="Rounds in all; 0 goes on until stopped.")
@click.option("--set", "overrides", multiple=True, metavar="A.B=VALUE", help="Override a configuration key.")
@click.option("--dry-run", is_flag=True, help="Print the resolved configuration and the plan, and stop.")
@click.option("--yes", is_flag=True, help="Agree to a cold start estimated above teacher.confirm_usd.")
@click.option("--quiet", is_flag=True, help="Print nothing but errors.")
@click.option("--json", "as_json", is_flag=True, help="Print events as JSON, one a line, as they happen.")
def run(
    config: str,
    recipe: str | None,
    run_dir: Path | None,
    rounds: int | None,
    overrides: tuple[str, ...],
    dry_run: bool,
    yes: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Start a run, or continue it from wherever it is."""
    from loop.config_file import load_config
    from loop.trackers import require_trackers

    extra = [] if rounds is None else [f"run.rounds={rounds}"]
    resolved = load_config(config, [*overrides, *extra], recipe)
    if dry_run:
        from loop.plan import format_plan

        if run_dir is not None and (run_dir / "store.db").exists():
            _require_same(resolved, run_dir)
        click.echo(json.dumps(resolved.model_dump(mode="json")) if as_json else format_plan(resolved))
        return
    require_trackers(resolved.tracking)
    if run_dir is None:
        raise InputError("--run-dir is missing: name a directory to keep the run in")
    from loop.run_log import run_log

    # What libraries say while they are loaded belongs in run.log too.
    with console_for(run_dir, resolved.run.rounds, quiet=quiet, as_json=as_json) as console, run_log(run_dir):
        from loop.controller import run as run_rounds

        finished = run_rounds(resolved, run_dir, console, agreed=yes)
    if not finished:
        sys.exit(INTERRUPTED)


@cli.command()
@run_dir_argument
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def add(run_dir: Path, file: Path, as_json: bool) -> None:
    """Add questions of a JSONL FILE to a run, also while it runs; the next round sees them."""
    from loop.ingest import add_file

    store = open_store(run_dir)
    added = add_file(store, _stored_config(store, run_dir), file)
    store.close()
    click.echo(json.dumps({"added": added}) if as_json else _counted(added, "new question", run_dir))


@cli.command()
@run_dir_argument
@click.option("--follow", is_flag=True, help="A line whenever a round has finished, until the run ends.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a round, one a line.")
@click.option("--csv", "as_csv", is_flag=True, help="CSV with every figure.")
def log(run_dir: Path, follow: bool, as_json: bool, as_csv: bool) -> None:
    """The accuracy log: a row a round, as wide as the terminal (or COLUMNS) is."""
    from loop.accuracy_log import log_rows
    from loop.log_table import format_log, log_csv

    if as_json and as_csv:
        raise InputError("--json and --csv are two formats; give one")
    store = _open_to_read(run_dir)
    if follow:
        _follow(store, as_json=as_json, as_csv=as_csv)
    elif as_json:
        for row in log_rows(store):
            click.echo(json.dumps(row))
    elif as_csv:
        click.echo(log_csv(log_rows(store)), nl=False)
    else:
        click.echo(format_log(store, table_width(), colour=True))
    store.close()


def _follow(store: Store, *, as_json: bool, as_csv: bool) -> None:
    from loop.follow import follow

    try:
        for line in follow(store, "json" if as_json else "csv" if as_csv else "table", table_width()):
            click.echo(line)
    except KeyboardInterrupt:
        return


@cli.command()
@run_dir_argument
@click.option("--policy", type=ROW_ID, metavar="N", help="Its number; the accepted one if left out.")
@click.option("--split", default="test", show_default=True, help="Whose questions are asked.")
@click.option("--best-of", "samples", type=click.IntRange(min=2), metavar="K", help="Also vote over K samples.")
@click.option("--reference", type=ROW_ID, metavar="N", help="The verifier's reference; the cold start if left out.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def evaluate(
    run_dir: Path, policy: int | None, split: str, samples: int | None, reference: int | None, as_json: bool
) -> None:
    """Score one policy on held-out questions: greedily, and with K samples by vote and verifier."""
    from loop.best_of import as_json as figure_as_json
    from loop.best_of import format_figures
    from loop.evaluate_run import evaluate_run

    store = open_store(run_dir)
    config = _stored_config(store, run_dir)
    store.close()
    found = evaluate_run(config, run_dir, Console(quiet=as_json), policy, split, samples or 0, reference)
    figures = found.pop("best_of")
    if as_json:
        click.echo(json.dumps({**found, "best_of": [figure_as_json(each) for each in figures]}))
        return
    for style, figure in found["accuracy"].items():
        low, high = 100 * figure["low"], 100 * figure["high"]
        click.echo(f"policy {found['policy']}, {style}: {100 * figure['accuracy']:.1f}% [{low:.1f}, {high:.1f}]")
    if figures:
        click.echo(f"best of {samples}, verified against policy {found['reference']}")
        click.echo(format_figures(figures, samples or 0))


@cli.command()
@click.option("--judge", "spec", required=True, metavar="NAME", help="A judge, for example 'numeric(relative=0.05)'.")
@click.option("--against", metavar="NAME", help="A second judge; the summary says how often both say the same.")
@click.option("--prediction-key", default="prediction", show_default=True, help="Where a row has its prediction.")
@click.option("--answers-key", help="Where a row has its accepted answer or answers. [default: answer or answers]")
@click.option("--needs-marker", is_flag=True, help="A prediction without an answer marker is unparsable.")
@click.option("--skip-bad", is_flag=True, help="Report broken rows and go on.")
@click.option("--base-url", help="Where judge 'llm' is asked: an OpenAI-compatible endpoint.")
@click.option("--model", help="Which model judge 'llm' is.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
def judge(
    spec: str,
    against: str | None,
    prediction_key: str,
    answers_key: str | None,
    needs_marker: bool,
    skip_bad: bool,
    base_url: str | None,
    model: str | None,
    as_json: bool,
) -> None:
    """Score predictions: JSON lines on standard input, the same lines with verdicts on standard output.

    A line is {"prediction", "answer" or "answers", "choices"?, "finish_reason"?, "question"?}. The summary
    goes to standard error.
    """
    from loop.predictions import endpoint, format_summary, judge_lines, parse_judge

    first = parse_judge(spec)
    with Console().bar("judging", 0, "row") as bar:
        summary = judge_lines(
            sys.stdin.buffer,
            sys.stdout,
            first,
            against=None if against is None else parse_judge(against),
            ask=endpoint(base_url, model),
            prediction_key=prediction_key,
            answers_key=answers_key,
            needs_marker=needs_marker,
            skip_bad=skip_bad,
            report_bad=lambda message: click.echo(f"skipped: {message}", err=True),
            progress=bar.update,
        )
    figures = summary.as_dict()
    click.echo(json.dumps(figures) if as_json else format_summary(first, figures), err=True)


@cli.command()
@run_dir_argument
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def status(run_dir: Path, as_json: bool) -> None:
    """What a run is doing now, how far it is, and how fast.

    The exit code tells: 0 running, 3 finished, 4 stopped (it can go on), 5 stale (its process died without a word, or
    gives no sign of life). 1 is a failure and 2 bad input, as everywhere.
    """
    from loop.status_view import EXIT_CODES, format_status
    from store.status import run_status

    store = _open_to_read(run_dir)
    state = run_status(store)
    click.echo(json.dumps(asdict(state)) if as_json else format_status(run_dir, store, state))
    store.close()
    sys.exit(EXIT_CODES[state.state])


@cli.command()
@run_dir_argument
@click.option("--json", "as_json", is_flag=True, help="One JSON object with the list of faults.")
def check(run_dir: Path, as_json: bool) -> None:
    """Verify the store and the weights on disk; exit code 1 if anything is wrong. Changes nothing."""
    from loop.check import check_run

    store = open_store(run_dir, read_only=True)
    faults = check_run(store, run_dir, Console(quiet=as_json))
    store.close()
    if as_json:
        click.echo(json.dumps({"faults": faults}))
    else:
        click.echo(block("\n".join(faults)) if faults else f"{run_dir}: nothing wrong")
    if faults:
        sys.exit(FAILURE)


@cli.command()
@run_dir_argument
@click.argument("what", type=click.Choice(["pairs", "samples"]))
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
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def export(
    run_dir: Path,
    what: str,
    form: str | None,
    file: Path,
    rounds: tuple[int, ...],
    rules: tuple[str, ...],
    outcomes: tuple[str, ...],
    as_json: bool,
) -> None:
    """Write pairs in TRL's preference format, or samples as prompts and completions, images included."""
    from loop.export import export_pairs, export_samples

    if form is None and file.suffix not in (".jsonl", ".parquet"):
        raise InputError(f"-o {file}: end it in .jsonl or .parquet, or give --format")
    if (rules and what == "samples") or (outcomes and what == "pairs"):
        raise InputError("--rule is for pairs, --outcome is for samples")
    store = _open_to_read(run_dir)
    config, say = _stored_config(store, run_dir), Console(quiet=as_json)
    form = form or file.suffix.removeprefix(".")
    if what == "pairs":
        written = export_pairs(store, config, file, form, rounds, rules, say)
    else:
        written = export_samples(store, config, file, form, rounds, outcomes, say)
    store.close()
    click.echo(json.dumps({"written": written}) if as_json else _counted(written, what.removesuffix("s"), file))


@cli.command("import")
@run_dir_argument
@click.argument("what", type=click.Choice(["pairs"]))
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def import_(run_dir: Path, what: str, file: Path, as_json: bool) -> None:
    """Take preference pairs of a JSONL or Parquet FILE into a run; its next update trains on them too."""
    from loop.import_pairs import import_pairs

    store = open_store(run_dir)
    config = _stored_config(store, run_dir)
    added = import_pairs(store, config, file, Console(quiet=as_json))
    store.close()
    click.echo(json.dumps({"imported": added}) if as_json else _counted(added, "new pair", run_dir))


@cli.command()
@run_dir_argument
@click.option(
    "--older-than", type=click.IntRange(min=0), required=True, metavar="N", help="Rounds to leave as they are."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def archive(run_dir: Path, older_than: int, as_json: bool) -> None:
    """Move samples of rounds more than N behind the latest to Parquet files beside the store."""
    from store.archive import archive_round, rounds_to_archive

    store = open_store(run_dir)
    numbers, moved = rounds_to_archive(store, older_than), 0
    with Console(quiet=as_json).bar("archiving", len(numbers), "round") as bar:
        for number in numbers:
            moved += archive_round(store, number)
            bar.update()
    store.close()
    say = f"{moved:,} samples of {len(numbers)} rounds moved to {run_dir / 'archive'}"
    click.echo(json.dumps({"rounds": numbers, "samples": moved}) if as_json else say)


@cli.command()
@click.option("--config", default="easy_vqa", show_default=True, metavar="NAME_OR_FILE", help="What is to be run.")
@click.option("--run-dir", default="runs", show_default=True, type=click.Path(path_type=Path), help="Where.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object with the list of findings.")
def doctor(config: str, run_dir: Path, as_json: bool) -> None:
    """What this machine can run; exit code 1 if something that a run needs is missing."""
    from loop.doctor import examine, format_findings

    findings = examine(config, run_dir)
    click.echo(json.dumps({"findings": [asdict(each) for each in findings]}) if as_json else format_findings(findings))
    if any(finding.state == "missing" for finding in findings):
        sys.exit(FAILURE)


@cli.command()
@run_dir_argument
@click.argument("kind", type=click.Choice(["question", "sample", "pair", "round", "policy"]))
@click.argument("number", metavar="[ID]", type=ROW_ID, required=False)
@click.option("--round", type=ROW_ID, metavar="N", help="Of this round.")
@click.option("--outcome", type=click.Choice(OUTCOMES), help="Judged so; of questions: by their vote.")
@click.option("--question", type=ROW_ID, metavar="ID", help="Of this question.")
@click.option("--policy", type=ROW_ID, metavar="N", help="Of this policy.")
@click.option("--rule", metavar="NAME", help="Pairs of this rule.")
@click.option("--suspect", is_flag=True, help="Questions that the teacher failed twice.")
@click.option(
    "--changed-since",
    type=ROW_ID,
    metavar="N",
    help="Held-out questions right under one of policy N and --policy only.",
)
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="How many are listed.")
@click.option(
    "--save-images", type=click.Path(path_type=Path), metavar="FOLDER", help="Write the record's images there."
)
@click.option("--json", "as_json", is_flag=True, help="JSON: a record a line.")
def show(
    run_dir: Path, kind: str, number: int | None, limit: int, save_images: Path | None, as_json: bool, **filters: Any
) -> None:
    """Look at what a run has: a list without an ID, one record with everything around it with one.

    --policy is the accepted one where --changed-since is given without it.
    """
    from loop.records import Filters
    from loop.show import show_many, show_one

    if number is None and save_images is not None:
        raise InputError("--save-images is for one record; give its ID")
    store = _open_to_read(run_dir)
    if number is None:
        show_many(store, kind, Filters(**filters), limit, table_width(), as_json=as_json)
    else:
        show_one(store, kind, number, Filters(**filters), save_images, table_width(), as_json=as_json)
    store.close()


@cli.command()
@run_dir_argument
@click.option(
    "-o", "--output", "file", default="report.html", show_default=True, metavar="FILE", type=click.Path(path_type=Path)
)
@click.option("--questions", type=click.IntRange(min=0), default=10_000, show_default=True, help="Kept at most.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def report(run_dir: Path, file: Path, questions: int, as_json: bool) -> None:
    """Write a run as one HTML page: curves, rounds, and questions with their chains. It needs no network."""
    from loop.pages.report import write_report

    store = _open_to_read(run_dir)
    made = write_report(store, file, questions, Console(quiet=as_json))
    store.close()
    say = f"{file}: {made.questions:,} of {made.of:,} questions, {made.bytes / 1e6:.1f} MB"
    click.echo(json.dumps(asdict(made)) if as_json else say)


@cli.command()
@run_dir_argument
@click.option("--host", default="127.0.0.1", show_default=True, help="Where to listen; beyond loopback needs --token.")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="0 takes a free one.")
@click.option("--token", is_flag=True, help="Ask for a token: RATCHET_TOKEN if it is set, else a new one.")
def serve(run_dir: Path, host: str, port: int, token: bool) -> None:
    """Show a run in the browser as it goes on. Reads only."""
    from loop.pages.serve import serve_run

    serve_run(run_dir, host, port, os.environ.get("RATCHET_TOKEN") if token else None, token, click.echo)


def _require_same(config: Config, run_dir: Path) -> None:
    """Hold a dry run to the configuration of the run that it would continue, as the run itself is held."""
    from loop.record_run import require_same

    store = _open_to_read(run_dir)
    require_same(store, config)
    store.close()


def _counted(count: int, noun: str, where: Path) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'} in {where}"


def _open_to_read(run_dir: Path) -> Store:
    """A store of an older version is brought up to date first, if it may be written and no run works on it."""
    return open_store(run_dir, read_only=not os.access(run_dir, os.W_OK) or lock_holder(run_dir) is not None)


def _stored_config(store: Any, run_dir: Path) -> Config:
    text = store.value("SELECT configuration FROM run")
    if text is None:
        raise InputError(f"{run_dir} has not been started; start it with 'run'")
    from loop.config_file import parse_config

    return parse_config(json.loads(text), str(run_dir))


def main() -> None:
    """Run the command line."""
    run_command_line(lambda: cli.main(standalone_mode=False))


if __name__ == "__main__":
    main()
