"""`judge`: scores any file of predictions."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from loop.terminal.console import Console

JUDGE_RUN = "policy:"


@click.command()
@click.option(
    "--judge",
    "spec",
    required=True,
    metavar="NAME",
    help="A judge, for example 'numeric(relative=0.05)', or policy:JUDGE_DIR.",
)
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
    goes to standard error. With policy:JUDGE_DIR the policy of a finished judge run says which of two candidates is
    better; a line is {"question", "candidates", "images"?, "candidate_images"?, "better"?}, images in this folder.
    """
    if spec.startswith(JUDGE_RUN):
        _by_judge_run(Path(spec.removeprefix(JUDGE_RUN)), skip_bad=skip_bad, as_json=as_json)
        return
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


def _by_judge_run(run_dir: Path, *, skip_bad: bool, as_json: bool) -> None:
    from loop.judge_runs.judge_rows import judge_rows
    from loop.judge_runs.judge_run import open_judge_run

    found = open_judge_run(run_dir)
    with Console().bar("judging", 0, "row") as bar:
        figures = judge_rows(
            sys.stdin.buffer,
            sys.stdout,
            found,
            folder=Path.cwd(),
            skip_bad=skip_bad,
            report_bad=lambda message: click.echo(f"skipped: {message}", err=True),
            progress=bar.update,
        ).as_dict()
    if as_json:
        click.echo(json.dumps(figures), err=True)
        return
    click.echo(f"{figures['rows']} rows, policy {found.policy} of {run_dir}", err=True)
    if figures["rows"]:
        click.echo(f"one candidate in both orders: {100 * figures['consistent']:.1f}%", err=True)
    if figures["known"]:
        low, high, right = (100 * figures[key] for key in ("low", "high", "accuracy"))
        click.echo(f"the better one: {right:.1f}% [{low:.1f}, {high:.1f}] of {figures['known']} rows", err=True)
    if figures["unread"]:
        click.echo(f"without a verdict that can be read: {figures['unread']}", err=True)
