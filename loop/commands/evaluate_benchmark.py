"""`evaluate --benchmark`: a policy of a run on a published benchmark."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from loop.errors import InputError
from loop.terminal.console import Console

if TYPE_CHECKING:
    from loop.config.schema import Config
    from loop.session import Parts


def evaluate_benchmark(
    config: Config,
    run_dir: Path,
    console: Console,
    number: int | None,
    name: str,
    data: Path | None,
    *,
    style: str = "direct",
    limit: int | None = None,
    max_tokens: int | None = None,
    output: Path | None = None,
    parts: Parts | None = None,
) -> dict[str, Any]:
    """Score one policy of a run that is not running on a benchmark; returns its figures and what was seen in training.

    Without a number the best accepted policy. `data` is a file or folder with the set; without it the hub is asked.
    With `output` the samples are written there as lmms-eval logs them.
    """
    from loop.context import Stopped
    from loop.evaluation.benchmark import answer_benchmark, figures, lay_out, read_answered, write_samples
    from loop.evaluation.benchmark_set import known_benchmark, store_benchmark
    from loop.session import Parts, open_encoder, open_session, work_on
    from store.gate import best_policy
    from store.rounds import get_policy

    known = known_benchmark(name)
    if data is not None and not data.exists():
        raise InputError(f"--data {data}: there is no such file or folder")
    config = config.model_copy(update={"teacher": config.teacher.model_copy(update={"enabled": False})})
    tokens = max_tokens or (config.evaluation.max_tokens if style == "cot" else known.max_tokens)
    parts = parts or Parts()
    with work_on(run_dir, say=console.say) as store:
        # Before its images are stored: a run of a model that reads text only has none.
        if "images" in known.benchmark.columns and not open_encoder(store, config, parts).is_vision:
            raise InputError(
                f"--benchmark {name}: has images, but this run's model reads text only; take gsm8k or math"
            )
        policy = best_policy(store) if number is None else get_policy(store, number).number
        rows = store_benchmark(store, config, name, data, limit, console)
        try:
            with open_session(store, config, run_dir, console, parts, "evaluate") as (ctx, _):
                answer_benchmark(ctx, name, policy, rows, style, tokens)
                answered = read_answered(store, name, policy, rows, style)
                prompts = [lay_out(ctx, name, each.row.text, style) for each in answered]
        except Stopped:
            raise KeyboardInterrupt from None
        files = [] if output is None else write_samples(output, name, policy, style, answered, prompts, limit)
        unseen = [each for each in answered if each.seen is None]
        return {
            "policy": policy,
            "benchmark": name,
            "task": known.task,
            "style": style,
            "questions": len(answered),
            "refused": len(rows) - len(answered),
            "metrics": figures(name, answered),
            "by_rule": sum(bool(each.scored.flags) for each in answered),
            "seen_in_training": {each.row.number: each.seen for each in answered if each.seen is not None},
            "metrics_unseen": figures(name, unseen) if len(unseen) < len(answered) else None,
            "files": [str(file) for file in files],
        }


def print_benchmark(found: dict[str, Any]) -> None:
    """The figures as lines for people."""
    from loop.config.known_datasets import KNOWN

    title = KNOWN[found["benchmark"]].title
    click.echo(f"policy {found['policy']} on {title}, {found['style']}: {found['questions']:,} questions")
    for name, value in found["metrics"].items():
        click.echo(f"  {name}: {value:.4f}")
    if found["by_rule"]:
        click.echo(f"  {found['by_rule']:,} answers were read by rule where lmms-eval asks a model")
    if found["refused"]:
        click.echo(f"  {found['refused']:,} questions are not counted: the sampler does not take them")
    if seen := found["seen_in_training"]:
        rows = ", ".join(f"row {row} (question {question})" for row, question in list(seen.items())[:10])
        click.echo(f"  {len(seen):,} images are trained on: {rows}{', ...' if len(seen) > 10 else ''}; without them")
        for name, value in (found["metrics_unseen"] or {}).items():
            click.echo(f"    {name}: {value:.4f}")
    for file in found["files"]:
        click.echo(f"  {file}")
