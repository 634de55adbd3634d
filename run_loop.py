"""The command line of Ratchet: `python run_loop.py COMMAND`, or `ratchet COMMAND` once installed.

What a command needs is imported where it runs: the ones that only read answer in well under a second.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from loop.commands.exits import FAILURE, INTERRUPTED, run_command_line
from loop.commands.options import ROW_ID, counted, open_to_read, run_dir_argument, stored_config
from loop.commands.views import VIEW_COMMANDS
from loop.errors import InputError
from loop.terminal.choose_console import console_for
from loop.terminal.console import Console
from store import open_store

if TYPE_CHECKING:
    from loop.config.schema import Config


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
def cli() -> None:
    """Ratchet: iterative self-improvement for vision-language and language models.

    Rounds of sampling, judging, DPO, hot swap and evaluation; a candidate that is worse is rolled back.
    """


for command in VIEW_COMMANDS:
    cli.add_command(command)


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
    from loop.config.load import load_config
    from loop.trackers import require_trackers

    extra = [] if rounds is None else [f"run.rounds={rounds}"]
    resolved = load_config(config, [*overrides, *extra], recipe)
    if dry_run:
        from loop.commands.dry_run import format_plan

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
        from loop.session import Parts
        from loop.trackers.feed import observe_with_trackers

        parts = Parts(open_observer=observe_with_trackers)
        finished = run_rounds(resolved, run_dir, console, agreed=yes, parts=parts)
    if not finished:
        sys.exit(INTERRUPTED)


@cli.command()
@run_dir_argument
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def add(run_dir: Path, file: Path, as_json: bool) -> None:
    """Add questions of a JSONL FILE to a run, also while it runs; the next round sees them."""
    from loop.questions.ingest import add_file

    store = open_store(run_dir)
    added = add_file(store, stored_config(store, run_dir), file)
    store.close()
    click.echo(json.dumps({"added": added}) if as_json else counted(added, "new question", run_dir))


@cli.command()
@run_dir_argument
@click.option("--policy", type=ROW_ID, metavar="N", help="Its number; the accepted one if left out.")
@click.option("--split", default="test", show_default=True, help="Whose questions are asked.")
@click.option("--best-of", "samples", type=click.IntRange(min=2), metavar="K", help="Also vote over K samples.")
@click.option(
    "--reference", type=ROW_ID, metavar="N", help="What the verifier compares with; the cold start if left out."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def evaluate(
    run_dir: Path, policy: int | None, split: str, samples: int | None, reference: int | None, as_json: bool
) -> None:
    """Score one policy on held-out questions: greedily, and with K samples by vote and verifier.

    The verifier is the later of the policy and its reference, over the earlier: `--policy 1 --reference 5` has
    policy 5 verify the chains of policy 1.
    """
    from loop.commands.evaluate import evaluate_run
    from loop.evaluation.best_of import as_json as figure_as_json
    from loop.evaluation.best_of import format_figures

    store = open_store(run_dir)
    config = stored_config(store, run_dir)
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
        earlier, later = sorted((found["policy"], found["reference"]))
        click.echo(f"best of {samples}, verified by policy {later} over policy {earlier}")
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
    from loop.evaluation.predictions import endpoint, format_summary, judge_lines, parse_judge

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


@cli.command("import")
@run_dir_argument
@click.argument("what", type=click.Choice(["pairs"]))
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def import_(run_dir: Path, what: str, file: Path, as_json: bool) -> None:
    """Take preference pairs of a JSONL or Parquet FILE into a run; its next update trains on them too."""
    from loop.questions.import_pairs import import_pairs

    store = open_store(run_dir)
    config = stored_config(store, run_dir)
    added = import_pairs(store, config, file, Console(quiet=as_json))
    store.close()
    click.echo(json.dumps({"imported": added}) if as_json else counted(added, "new pair", run_dir))


@cli.command()
@run_dir_argument
@click.option(
    "--older-than", type=click.IntRange(min=0), required=True, metavar="N", help="Rounds to leave as they are."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def archive(run_dir: Path, older_than: int, as_json: bool) -> None:
    """Move samples of rounds more than N behind the latest to Parquet files beside the store."""
    from store.maintenance.archive import archive_round, rounds_to_archive

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
    from loop.commands.doctor import examine, format_findings

    findings = examine(config, run_dir)
    click.echo(json.dumps({"findings": [asdict(each) for each in findings]}) if as_json else format_findings(findings))
    if any(finding.state == "missing" for finding in findings):
        sys.exit(FAILURE)


def _require_same(config: Config, run_dir: Path) -> None:
    """Hold a dry run to the configuration of the run that it would continue, as the run itself is held."""
    from loop.config.run_identity import require_same

    store = open_to_read(run_dir)
    require_same(store, config)
    store.close()


def main() -> None:
    """Run the command line."""
    run_command_line(lambda: cli.main(standalone_mode=False))


if __name__ == "__main__":
    main()
