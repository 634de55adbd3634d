"""`evaluate`: scores a policy of a run that is not running on held-out questions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from loop.commands.evaluate_benchmark import evaluate_benchmark, print_benchmark
from loop.commands.options import ROW_ID, run_dir_argument, stored_config
from loop.errors import InputError
from loop.terminal.console import Console
from store import open_store

if TYPE_CHECKING:
    from loop.config.schema import Config


@click.command()
@run_dir_argument
@click.option("--policy", type=ROW_ID, metavar="N", help="Its number; the accepted one if left out.")
@click.option("--split", default="test", show_default=True, help="Whose questions are asked.")
@click.option("--best-of", "samples", type=click.IntRange(min=2), metavar="K", help="Also vote over K samples.")
@click.option(
    "--reference", type=ROW_ID, metavar="N", help="What the verifier compares with; the cold start if left out."
)
@click.option(
    "--judge",
    "judge_dir",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="JUDGE_DIR",
    help="A finished run of a judge of preferences: it picks among the K samples.",
)
@click.option("--benchmark", metavar="NAME", help="A published benchmark, by its own prompt, split and rule.")
@click.option(
    "--data", type=click.Path(path_type=Path), metavar="PATH", help="Where the benchmark lies, if not the hub."
)
@click.option(
    "--style",
    type=click.Choice(["direct", "cot"]),
    help="Of a benchmark: its own prompt, or the run's reasoning prompt around its question.  [default: direct]",
)
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Of a benchmark: its first N rows.")
@click.option("--max-tokens", type=click.IntRange(min=1), metavar="N", help="Of a benchmark: tokens of an answer.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="FOLDER",
    help="Of a benchmark: write its samples there, as lmms-eval logs them.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def evaluate(
    run_dir: Path,
    policy: int | None,
    split: str,
    samples: int | None,
    reference: int | None,
    judge_dir: Path | None,
    benchmark: str | None,
    as_json: bool,
    **of_benchmark: Any,
) -> None:
    """Score one policy on held-out questions: greedily, and with K samples by vote, verifier and judge.

    The verifier is the later of the policy and its reference, over the earlier: `--policy 1 --reference 5` has
    policy 5 verify the chains of policy 1. With --benchmark the questions are those of a published benchmark.
    """
    from loop.evaluation.best_of import as_json as figure_as_json
    from loop.evaluation.best_of import format_figures

    if judge_dir is not None and samples is None:
        raise InputError("--judge picks among samples; give their number with --best-of")
    if benchmark is None and (given := next((name for name, value in of_benchmark.items() if value is not None), None)):
        raise InputError(f"--{given.replace('_', '-')} is for a benchmark; name it with --benchmark")
    if benchmark is not None and (samples or reference is not None or judge_dir is not None or split != "test"):
        raise InputError(
            "--benchmark has a split and a rule of its own; leave --split, --best-of, --reference and --judge out"
        )
    store = open_store(run_dir)
    config = stored_config(store, run_dir)
    store.close()
    if benchmark is not None:
        data, options = of_benchmark.pop("data"), {**of_benchmark, "style": of_benchmark["style"] or "direct"}
        scored = evaluate_benchmark(config, run_dir, Console(quiet=as_json), policy, benchmark, data, **options)
        if as_json:
            click.echo(json.dumps(scored))
        else:
            print_benchmark(scored)
        return
    found = evaluate_run(config, run_dir, Console(quiet=as_json), policy, split, samples or 0, reference, judge_dir)
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


def evaluate_run(
    config: Config,
    run_dir: Path,
    console: Console,
    number: int | None,
    split: str,
    samples: int,
    reference: int | None,
    judge_dir: Path | None = None,
) -> dict[str, Any]:
    """Score one policy of a run that is not running: greedily in both styles, and by best of `samples`.

    Without a number it is the best accepted policy; without a reference, the cold start's. With a judge run its
    choice is scored, too. The teacher is not asked, so no key is needed, and nothing is sent to trackers.
    """
    from loop.config.prompt_styles import STYLES
    from loop.context import Stopped
    from loop.evaluation.answer_questions import evaluate_policy
    from loop.evaluation.best_of import best_of
    from loop.judge_runs.best_of import best_of_by_judge
    from loop.judge_runs.judge_run import open_judge_run, require_same_model, with_room_for
    from loop.reading.accuracy_log import accuracy
    from loop.session import Parts, open_session, work_on
    from store.gate import best_policy
    from store.questions import find_questions
    from store.rounds import cold_start_policy, get_policy

    no_teacher = config.teacher.model_copy(update={"enabled": False})
    config = config.model_copy(update={"teacher": no_teacher})
    judge = None
    if judge_dir is not None:
        judge = open_judge_run(judge_dir)
        require_same_model(judge, config.policy)
        config = with_room_for(config, judge)
    with work_on(run_dir, say=console.say) as store:
        policy = best_policy(store) if number is None else get_policy(store, number).number
        against = cold_start_policy(store) if reference is None else get_policy(store, reference).number
        if samples and policy == against:
            raise InputError(f"policy {policy} is its own reference: the verifier needs two; give --reference")
        limit = config.evaluation.limit if split == config.evaluation.split else config.gate.limit
        usable = "split = ? AND answers != '[]' AND unusable IS NULL ORDER BY id LIMIT ?"
        questions = find_questions(store, usable, split, limit or -1)
        if not questions:
            raise InputError(f"{run_dir} has no question of split {split!r}")
        try:
            with open_session(store, config, run_dir, console, Parts(), "evaluate") as (ctx, _):
                evaluate_policy(ctx, policy, None, split, questions, STYLES)
                figures = best_of(ctx, policy, against, split, questions, samples) if samples else []
                if judge is not None:
                    figures += best_of_by_judge(ctx, judge, policy, split, questions, samples)
        except Stopped:
            raise KeyboardInterrupt from None
        accuracies = {style: accuracy(store, policy, style, split) for style in STYLES}
        return {"policy": policy, "split": split, "accuracy": accuracies, "reference": against, "best_of": figures}
