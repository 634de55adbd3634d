"""Compares runs of the demo's recipe with alternatives: held-out accuracy, decisions, minutes.

`python -m benchmarks.learning` makes a run of the program itself for every arm, numerics and seed, one run per
core, and prints two tables as Markdown: one row per run, then mean and worst of each arm. `benchmarks/many_runs.py`
explains how runs are kept, and numerics.
"""

import argparse
import json
import statistics
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.many_runs import NUMERICS, Results, Run, make_runs, parse_runs, run_program
from loop.evaluation.comparison import compare
from loop.reading.accuracy_log import accuracy, log_rows
from store import Store, open_store
from store.gate import best_policy
from store.rounds import cold_start_policy

CONFIG = "easy_vqa"
LONG = "long_cold_start"
NO_RFT = ("rft.per_question=0", "rft.direct_items=0", "rft.format_items=0", "rft.rationales=0")
NAIVE = (
    *NO_RFT,
    *("pairs.rule=random", "pairs.weighting=equal", "pairs.per_question=2", "pairs.band=[0.0, 1.0]"),
    *("pairs.balance=false", "update.learning_rate=1e-4", "update.losses={sigmoid = 1.0}", "fallback.use=pair"),
)
GRPO = (
    *NO_RFT,
    *("pairs.per_question=0", "pairs.balance=false", "fallback.questions=0", "sampling.samples=8"),
    *('grpo.groups="mixed"', "grpo.learning_rate=1e-4", "grpo.batch_size=64", "grpo.scheduler=constant_with_warmup"),
)
"""GRPO in the place of SFT and DPO, with questions and samples for about the same seconds."""
ARMS: dict[str, tuple[str, ...]] = {
    "ratchet": (),
    "no_balance": ("pairs.balance=false",),
    "no_shrink": ("gate.shrink=[]",),
    "grpo": GRPO,
    "grpo_after_rft": ("pairs.per_question=0", "pairs.balance=false", "fallback.use=sft", *GRPO[-4:]),
    "rft_alone": ("update.learning_rate=1e-12", "pairs.per_question=0", "fallback.use=sft"),
    "naive_dpo": (*NAIVE, "gate.rule=always"),
    "naive_dpo_shrunk": NAIVE,
    "no_gate": ("gate.rule=always",),
    "weighted": ("pairs.weighting=advantage",),
    "random_chains": ("rft.pick=random", "pairs.rule=random"),
    "fallback_none": ("fallback.use=none",),
    "fallback_pair": ("fallback.use=pair",),
    "fallback_sft": ("fallback.use=sft",),
}
"""What an arm changes of the embedded default. `long_cold_start` trains the cold start alone, on the same data, for as
long as `ratchet` trained and sampled in all."""

TWELVE = ("one_thread:0-7", "two_threads:0", "avx2:11-13")
"""Seeds and numerics of the figures in README."""


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arms", nargs="+", choices=[*ARMS, LONG], default=["ratchet"])
    parser.add_argument("--runs", nargs="+", default=TWELVE, metavar="NUMERICS:SEED[-SEED]", help=" ".join(NUMERICS))
    parser.add_argument("--rounds", type=int, help="rounds of each run; the configuration's if left out")
    parser.add_argument("--out", type=Path, default=Path("runs/learning"), help="where the runs are kept")
    parser.add_argument("--json", type=Path, default=Path("runs/learning.json"), help="where the results are kept")
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="A.B=VALUE")
    options = parser.parse_args()
    wanted = [Run(arm, *each) for arm in options.arms for each in parse_runs(options.runs)]
    results = Results(options.json)

    def make(run: Run) -> None:
        changes = [*(_long(options.out, run) if run.arm == LONG else ARMS[run.arm]), *options.overrides]
        if options.rounds is not None and run.arm != LONG:
            changes.append(f"run.rounds={options.rounds}")
        run_program(run, CONFIG, options.out / run.key, changes)
        results.add(run, read(options.out / run.key, run))

    make_runs([run for run in wanted if run.key not in results.found], make)
    print_tables([results.found[run.key] for run in wanted])


def _long(out: Path, run: Run) -> list[str]:
    """The cold start's epochs stretched to the training and sampling time of the whole `ratchet` run of this seed."""
    beside = out / Run("ratchet", run.numerics, run.seed).key
    if not (beside / "store.db").exists():
        raise SystemExit(
            f"{LONG} is as long as ratchet of the same seed: make that first (--arms ratchet, another --json)"
        )
    store = open_store(beside, read_only=True)
    seconds = "SELECT sum(seconds) FROM phase_time WHERE phase NOT IN ('evaluate', 'gate', 'distil')"
    trained = store.value("SELECT seconds FROM training WHERE round = 0")
    epochs = store.value("SELECT json_extract(recipe, '$.sft.epochs') FROM training WHERE round = 0")
    stretch = store.value(seconds) / trained
    store.close()
    return [
        f"cold_start.epochs={epochs * stretch:.0f}",
        *("run.rounds=1", "sampling.questions=1", "fallback.questions=0", "pairs.per_question=0", *NO_RFT),
    ]


def read(run_dir: Path, run: Run) -> dict[str, Any]:
    """The figures of a finished run, all of reported questions."""
    store = open_store(run_dir, read_only=True)
    rows = log_rows(store)
    served, start = best_policy(store), cold_start_policy(store)
    direct = compare(store, served, start, "test", "direct")
    candidates = [row["candidate"] for row in store.rows("SELECT candidate FROM training ORDER BY round")]
    recorded = json.loads(store.value("SELECT numerics FROM session ORDER BY id LIMIT 1"))
    result = {
        "arm": run.arm,
        "numerics": run.numerics,
        "seed": run.seed,
        "computed_with": recorded or None,
        "candidates": [_accuracies(store, policy) for policy in candidates],
        "served": _accuracies(store, served),
        "last": _accuracies(store, _last(rows)),
        "faithful": [_faithful(store, start), _faithful(store, served)],
        "best_evaluated": max(_right(store, row["policy"]) for row in store.rows(EVALUATED)),
        "direct_after_cold_start": {"gained": direct.gained, "lost": direct.lost, "p": direct.p_value},
        "decisions": [_decision(row) for row in rows[1:]],
        "seconds": store.value("SELECT sum(seconds) FROM phase_time"),
    }
    store.close()
    return result


EVALUATED = "SELECT DISTINCT policy FROM evaluation WHERE split = 'test' AND policy > 0"


def _last(rows: Sequence[dict[str, Any]]) -> int:
    return int([row["policy"] for row in rows if row["decision"] == "accepted"][-1])


def _right(store: Store, policy: int) -> float:
    figure = accuracy(store, policy, "cot", "test")
    return 0.0 if figure is None else float(figure["accuracy"])


def _accuracies(store: Store, policy: int) -> dict[str, Any]:
    found = {style: accuracy(store, policy, style, "test") for style in ("cot", "direct")}
    return {"policy": policy, **{style: figure and figure["accuracy"] for style, figure in found.items()}}


def _faithful(store: Store, policy: int) -> float | None:
    figure = accuracy(store, policy, "cot", "test")
    return None if figure is None else figure["faithful"]


def _decision(row: dict[str, Any]) -> str:
    """ "accepted", "rejected", "no_update", or "shrunk 0.5" where that was accepted in place of the candidate."""
    accepted = [trial["alpha"] for trial in row["trials"] if trial["accepted"]]
    return f"shrunk {accepted[-1]:g}" if accepted and accepted[-1] is not None else str(row["decision"])


def print_tables(results: Sequence[dict[str, Any]]) -> None:
    """Print one row per run, then one row per arm."""
    print("| arm | numerics | seed | CoT: cold start, candidates | decisions | CoT served | best | direct | minutes |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    by_arm = defaultdict(list)
    for each in results:
        by_arm[each["arm"]].append(each)
        direct = f"{_points(each['candidates'][0]['direct'])} to {_points(each['served']['direct'])}"
        cells = (
            *(each["arm"], each["numerics"].replace("_", " "), each["seed"]),
            ", ".join(_points(candidate["cot"]) for candidate in each["candidates"]),
            _in_words(each["decisions"]),
            *(_points(each["served"]["cot"]), _points(each["best_evaluated"]), direct, f"{each['seconds'] / 60:.1f}"),
        )
        print(f"| {' | '.join(map(str, cells))} |")
    print()
    print("| arm | runs | CoT served: mean | worst | below the best of its run, at most | if the last were served: mean"
          " | worst | rejected | shrunk | direct below the cold start (p < 0.05) | mean minutes |")  # fmt: skip
    print("| --- " * 11 + "|")
    for arm, runs in by_arm.items():
        served, last = ([each[which]["cot"] for each in runs] for which in ("served", "last"))
        behind = max(each["best_evaluated"] - each["served"]["cot"] for each in runs)
        decisions = [decision for each in runs for decision in each["decisions"]]
        worse = sum(
            each["direct_after_cold_start"]["p"] < 0.05
            and each["direct_after_cold_start"]["lost"] > each["direct_after_cold_start"]["gained"]
            for each in runs
        )
        summary = (
            *(arm, len(runs), _points(statistics.mean(served)), _points(min(served)), _points(behind)),
            *(_points(statistics.mean(last)), _points(min(last))),
            *(decisions.count("rejected"), sum(each.startswith("shrunk") for each in decisions), worse),
            f"{statistics.mean(each['seconds'] for each in runs) / 60:.1f}",
        )
        print(f"| {' | '.join(map(str, summary))} |")


def _in_words(decisions: Sequence[str]) -> str:
    odd = [f"round {n} {decision}" for n, decision in enumerate(decisions, 1) if decision != "accepted"]
    return ", ".join(odd) or "all accepted"


def _points(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f}"


if __name__ == "__main__":
    main()
