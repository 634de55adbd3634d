"""The loop and its peers from the same cold start, in turns: seconds to an accuracy, evaluation excluded.

`python -m benchmarks.peers [--arms NAME ...] [--seeds N ...] [--set engine.replicas='"auto"']`. Every arm is a process
of its own. Results are kept in the JSON file; an arm that is in it is not measured again.
"""

import argparse
import json
import resource
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ARMS = {
    "loop": ["benchmarks.peers.loop"],
    "loop, restarted every round": ["benchmarks.peers.loop", "--restart"],
    "script, same recipe": ["benchmarks.peers.script"],
    "script, one pair per question": ["benchmarks.peers.script", "--one-pair"],
    "TRL GRPO": ["benchmarks.peers.grpo"],
}
MARKS = (0.9, 0.95)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    parser.add_argument("--seconds", type=float, default=1800, help="no round of an arm begins after so many")
    parser.add_argument("--enough", type=float, default=MARKS[-1], help="held-out accuracy that ends an arm")
    parser.add_argument("--reported", type=int, default=1000, help="test questions")
    parser.add_argument("--out", type=Path, default=Path("runs/peers"), help="where the runs are kept")
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results/peers.json"))
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="A.B=VALUE", help="of the loop")
    options = parser.parse_args()
    found: dict[str, Any] = json.loads(options.json.read_text()) if options.json.exists() else {}
    for seed in options.seeds:
        start = _cold_start(options, seed)
        for arm in options.arms:
            if (key := f"{arm}/{seed}") not in found:
                found[key] = {"arm": arm, "seed": seed, **_measure(arm, start, options, seed)}
                options.json.write_text(json.dumps(found, indent=1) + "\n")
    print(table([each for each in found.values() if each["arm"] in options.arms]))


def _cold_start(options: argparse.Namespace, seed: int) -> Path:
    """A run that ended with its cold start, from which all arms begin."""
    start: Path = options.out / f"start-{seed}"
    if not (start / "finished").exists():
        shutil.rmtree(start, ignore_errors=True)
        keys = [f"run.seed={seed}", f"evaluation.limit={options.reported}"]
        command = [sys.executable, "-m", "benchmarks.peers.cold_start", str(start), *_set(keys)]
        subprocess.run(command, check=True)
        (start / "finished").touch()
    return start


def _measure(arm: str, start: Path, options: argparse.Namespace, seed: int) -> dict[str, Any]:
    """Run an arm; return its rounds, from the lines that it prints, and the peak memory of its largest process."""
    run_dir = options.out / f"{arm.replace(', ', '-').replace(' ', '_')}-{seed}"
    keys = {"--seed": seed, "--seconds": options.seconds, "--enough": options.enough, "--reported": options.reported}
    module, *switches = ARMS[arm]
    more = [str(part) for pair in {**keys, "--out": run_dir}.items() for part in pair]
    command = [sys.executable, "-m", module, str(start), *switches, *more, *_set(options.overrides)]
    print(f"seed {seed}: {arm}", file=sys.stderr, flush=True)
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    rounds = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss << 10
    return {"rounds": rounds, "peak_bytes_so_far": peak}


def _set(keys: Sequence[str]) -> list[str]:
    return [part for key in keys for part in ("--set", key)]


def table(results: Sequence[dict[str, Any]]) -> str:
    """The results as a Markdown table with one row per arm and seed."""
    lines = [
        "| arm | seed | seconds per round | chains/s | accuracy by round, % | seconds to 90% | to 95% |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for each in results:
        rounds = each["rounds"]
        last = rounds[-1]
        curve = ", ".join(f"{100 * line['cot']:.1f}" for line in rounds[:6]) + (", ..." if len(rounds) > 6 else "")
        reached = [next((f"{line['seconds']:.0f}" for line in rounds if line["cot"] >= mark), None) for mark in MARKS]
        cells = (
            *(each["arm"], each["seed"], f"{last['seconds'] / len(rounds):.0f}"),
            *(f"{last['chains'] / last['seconds']:.0f}", curve),
            *(mark or f"never in {last['seconds']:.0f}" for mark in reached),
        )
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
