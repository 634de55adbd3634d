"""What the recipe is worth: runs of the embedded default beside their alternatives, at equal budget.

`python -m benchmarks.learning --out runs/learning --seeds 0 1 2` makes a run for every arm and seed with the
program itself, one after the other, and prints the table as Markdown. A run that is finished is read, not made
again, so an interrupted benchmark goes on where it was.
"""

import argparse
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loop.reading.accuracy_log import log_rows
from store import open_store

CONFIG = "easy_vqa"
LONG = "long_cold_start"
NO_RFT = ("rft.per_question=0", "rft.direct_items=0", "rft.format_items=0", "rft.rationales=0")
ARMS: dict[str, tuple[str, ...]] = {
    "ratchet": (),
    "rft_alone": ("update.learning_rate=1e-12", "pairs.per_question=0", "fallback.use=sft"),
    "naive_dpo": (
        *NO_RFT,
        "pairs.rule=random",
        "pairs.weighting=equal",
        "pairs.per_question=2",
        "pairs.band=[0.0, 1.0]",
        "update.learning_rate=1e-4",
        "update.losses={sigmoid = 1.0}",
        "gate.rule=always",
        "fallback.use=pair",
    ),
    "no_gate": ("gate.rule=always",),
    "weighted": ("pairs.weighting=advantage",),
    "random_chains": ("rft.pick=random", "pairs.rule=random"),
    "fallback_none": ("fallback.use=none",),
    "fallback_pair": ("fallback.use=pair",),
    "fallback_sft": ("fallback.use=sft",),
}
"""What an arm changes of the embedded default, whose fallback.use is "both". `long_cold_start` trains the cold start
alone, on the same data, for as long as `ratchet` trained and sampled in all."""


@dataclass(frozen=True)
class Result:
    """The first and the last accepted policy of a run: log rows' accuracies, and minutes of all phases."""

    first: dict[str, Any]
    last: dict[str, Any]
    accepted: int
    rounds: int
    minutes: float


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--arms", nargs="+", choices=[*ARMS, LONG], default=["ratchet", "rft_alone", "naive_dpo", LONG])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--rounds", type=int, help="rounds of each run; the configuration's if left out")
    parser.add_argument("--out", type=Path, default=Path("runs/learning"))
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="A.B=VALUE")
    options = parser.parse_args()
    print("| arm | seed | cot: cold start | cot: last | gain | faithful | direct | accepted | minutes |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |", flush=True)
    for seed in options.seeds:
        for arm in options.arms:
            changes = [*options.overrides, *(_long(options.out, seed) if arm == LONG else ARMS[arm])]
            if options.rounds is not None and arm != LONG:
                changes.append(f"run.rounds={options.rounds}")
            run_dir = options.out / f"{arm}-{seed}"
            _run(run_dir, [*changes, f"run.seed={seed}"])
            print(_row(arm, seed, read(run_dir)), flush=True)


def _run(run_dir: Path, changes: list[str]) -> None:
    flags = [flag for change in changes for flag in ("--set", change)]
    run_dir.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "run_loop.py", "run", "--config", CONFIG, "--run-dir", str(run_dir), "--quiet", *flags]
    subprocess.run(command, check=True)


def _long(out: Path, seed: int) -> list[str]:
    """The cold start's epochs stretched to the training and sampling time of the whole `ratchet` run of this seed."""
    if not (out / f"ratchet-{seed}" / "store.db").exists():
        raise SystemExit(f"{LONG} is as long as ratchet of the same seed: make that first (--arms ratchet {LONG})")
    store = open_store(out / f"ratchet-{seed}", read_only=True)
    seconds = "SELECT sum(seconds) FROM phase_time WHERE phase NOT IN ('evaluate', 'gate', 'distil')"
    trained = store.value("SELECT seconds FROM training WHERE round = 0")
    epochs = store.value("SELECT json_extract(recipe, '$.sft.epochs') FROM training WHERE round = 0")
    stretch = store.value(seconds) / trained
    store.close()
    return [
        f"cold_start.epochs={epochs * stretch:.0f}",
        *("run.rounds=1", "sampling.questions=1", "fallback.questions=0", "pairs.per_question=0", *NO_RFT),
    ]


def read(run_dir: Path) -> Result:
    """The figures of a run, from its accuracy log."""
    store = open_store(run_dir, read_only=True)
    rows = log_rows(store)
    seconds = store.value("SELECT sum(seconds) FROM phase_time")
    store.close()
    accepted = [row for row in rows if row["decision"] == "accepted" and row["accuracy"]["cot"] is not None]
    return Result(accepted[0]["accuracy"], accepted[-1]["accuracy"], len(accepted) - 1, len(rows) - 1, seconds / 60)


def _row(arm: str, seed: int, result: Result) -> str:
    first, last = result.first["cot"], result.last["cot"]
    faithful = "-" if first["faithful"] is None else f"{100 * first['faithful']:.1f} to {100 * last['faithful']:.1f}"
    direct = f"{100 * result.first['direct']['accuracy']:.1f} to {100 * result.last['direct']['accuracy']:.1f}"
    gain = 100 * (last["accuracy"] - first["accuracy"])
    cells = (
        arm,
        seed,
        _percent(first),
        _percent(last),
        f"{gain:+.1f}",
        faithful,
        direct,
        f"{result.accepted} of {result.rounds}",
        f"{result.minutes:.1f}",
    )
    return f"| {' | '.join(map(str, cells))} |"


def _percent(figure: dict[str, Any]) -> str:
    return f"{100 * figure['accuracy']:.1f} [{100 * figure['low']:.1f}, {100 * figure['high']:.1f}]"


if __name__ == "__main__":
    main()
