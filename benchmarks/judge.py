"""Compares judge runs with their alternatives: preferences judged rightly in both orders, by task, after each round.

`python -m benchmarks.judge` begins each run from a finished demo run, one run per core, and prints two tables
as Markdown: a row for each round of each run, then the last policies of each arm. `benchmarks/many_runs.py` explains
how runs are kept, and numerics.
"""

import argparse
import statistics
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.many_runs import NUMERICS, Results, Run, make_runs, parse_runs, run_program
from loop.evaluation.statistics import wilson_interval
from loop.reading.accuracy_log import accuracy, log_rows
from store import open_store
from store.gate import best_policy

CONFIG = "easy_vqa_judge"
LONG, TAUGHT = "long_cold_start", "all_traces_at_once"
STYLES = ("cot", "direct")
TASKS = ("answer", "reasons", "generation")
SFT = ('stages.rounds=["rft"]', "stages.questions=[4000]", "stages.samples=[2]")
GRPO = ('stages.rounds=["grpo"]', "stages.questions=[1000]", "stages.samples=[8]")
ARMS: dict[str, tuple[str, ...]] = {
    "unifiedreward_think": (),
    "no_fallback": ("fallback.questions=0",),
    "sft_alone": SFT,
    "dpo_for_grpo": ('stages.rounds=["rft", "rft", "dpo"]', "pairs.per_question=2", "update.learning_rate=5e-5"),
    "grpo_alone": GRPO,
    "no_chains": (
        *GRPO,
        *("fallback.questions=0", "sampling.style=direct", 'gate.guard=["cot"]', "grpo.rewards={answer = 1.0}"),
    ),
}
"""What an arm changes. `long_cold_start` trains the cold start alone for as long as `unifiedreward_think` of the same
seed took in all, evaluation and gate apart. `all_traces_at_once` does so on as many questions to the teacher as that
run asked in all its rounds."""


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--demo", type=Path, default=Path("runs/demo"), help="the finished run that judges begin from")
    parser.add_argument("--arms", nargs="+", choices=[*ARMS, LONG, TAUGHT], default=["unifiedreward_think"])
    parser.add_argument("--runs", nargs="+", default=["one_thread:0-2"], metavar="NUMERICS:SEED[-SEED]",
                        help=" ".join(NUMERICS))  # fmt: skip
    parser.add_argument("--out", type=Path, default=Path("runs/judges"), help="where the runs are kept")
    parser.add_argument("--json", type=Path, default=Path("runs/judges.json"), help="where the results are kept")
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="A.B=VALUE")
    options = parser.parse_args()
    wanted = [Run(arm, *each) for arm in options.arms for each in parse_runs(options.runs)]
    results = Results(options.json)

    def make(run: Run) -> None:
        changes = ARMS[run.arm] if run.arm in ARMS else cold_start_alone(results, run)
        begun = (f"policy.model={options.demo.resolve()}/policies/current", f"questions.path={options.demo.resolve()}")
        run_program(run, CONFIG, options.out / run.key, [*begun, *changes, *options.overrides])
        results.add(run, read(options.out / run.key, run))

    make_runs([run for run in wanted if run.key not in results.found], make)
    print_tables([results.found[run.key] for run in wanted])


def cold_start_alone(results: Results, run: Run) -> list[str]:
    """A cold start that is trained for as long as the whole recipe of this seed, then a round of one question."""
    beside = results.found.get(Run("unifiedreward_think", run.numerics, run.seed).key)
    if beside is None:
        raise SystemExit(f"{run.arm} is as long as unifiedreward_think of the same seed: make that first")
    epochs = beside["cold_start_epochs"] * beside["seconds_of_work"] / beside["rounds"][0]["seconds"]["update"]
    asked = [row["teacher_asked"] or 0 for row in beside["rounds"]]
    share = sum(asked) / asked[0] if run.arm == TAUGHT else 1.0
    return [
        *(f"cold_start.rationales={asked[0] * share:.0f}", f"cold_start.epochs={epochs / share:.2f}", "run.rounds=1"),
        *('stages.rounds=["grpo"]', "stages.questions=[1]", "stages.samples=[8]", "fallback.questions=0"),
    ]


def read(run_dir: Path, run: Run) -> dict[str, Any]:
    """The figures of a finished run, all of reported questions."""
    store = open_store(run_dir, read_only=True)
    rows = log_rows(store)
    served = {style: accuracy(store, best_policy(store), style, "test") for style in STYLES}
    result = {
        "arm": run.arm,
        "numerics": run.numerics,
        "seed": run.seed,
        "rounds": [
            {key: row[key] for key in ("stages", "decision", "accuracy", "pass_rate", "teacher_asked", "seconds")}
            for row in rows
        ],
        "served": served,
        "cold_start_epochs": store.value("SELECT json_extract(recipe, '$.sft.epochs') FROM training WHERE round = 0"),
        "seconds_of_work": store.value("SELECT sum(seconds) FROM phase_time WHERE phase NOT IN ('evaluate', 'gate')"),
        "seconds": store.value("SELECT sum(seconds) FROM phase_time"),
    }
    store.close()
    return result


def print_tables(results: Sequence[dict[str, Any]]) -> None:
    """A row for each round of each run, then a row for each arm."""
    _print_row(
        "arm", "seed", "round", "both orders right, chains", "direct", "consistent", *TASKS, "decision", "minutes"
    )
    _print_row(*["---"] * 11)
    by_arm = defaultdict(list)
    for each in results:
        by_arm[each["arm"]].append(each)
        for number, row in enumerate(each["rounds"]):
            name = "cold start" if number == 0 else f"{number}: {'+'.join(row['stages'])}"
            minutes = f"{sum(row['seconds'].values()) / 60:.1f}"
            _print_row(each["arm"], each["seed"], name, *_cells(row["accuracy"]), row["decision"], minutes)
    print()
    _print_row("arm", "runs", "served: both orders right, chains", "direct", "consistent", *TASKS, "minutes")
    _print_row(*["---"] * 9)
    for arm, runs in by_arm.items():
        figures = [_cells(each["served"], interval=False) for each in runs]
        means = [
            f"{statistics.mean(map(float, column)):.1f}" if "-" not in column else "-"
            for column in zip(*figures, strict=True)
        ]
        _print_row(arm, len(runs), *means, f"{statistics.mean(each['seconds'] for each in runs) / 60:.1f}")


def _cells(figures: dict[str, Any], *, interval: bool = True) -> list[str]:
    return list(_cell_texts(figures, interval=interval))


def _cell_texts(figures: dict[str, Any], *, interval: bool) -> Iterator[str]:
    """In points: chains with the 95% interval, direct, the share with one verdict in both orders, then each task."""
    cot, direct = ((figures.get(style) or {}).get("pairwise") for style in STYLES)
    if cot is None:
        yield "-"
    elif interval:
        low, high = wilson_interval(round(cot["accuracy"] * cot["units"]), cot["units"])
        yield f"{100 * cot['accuracy']:.1f} [{100 * low:.1f}, {100 * high:.1f}]"
    else:
        yield f"{100 * cot['accuracy']:.1f}"
    yield "-" if direct is None else f"{100 * direct['accuracy']:.1f}"
    yield "-" if cot is None else f"{100 * cot['consistent']:.1f}"
    for task in TASKS:
        found = None if cot is None else cot["kinds"].get(task)
        yield "-" if found is None else f"{100 * found[1]:.1f}"


def _print_row(*cells: object) -> None:
    print(f"| {' | '.join(map(str, cells))} |")


if __name__ == "__main__":
    main()
