"""All measurements on a card: `python -m benchmarks.gpu`, without network and without arguments.

Models in the shapes of real ones with random weights, synthetic images, chains of 1,000 tokens. Measures sampling
compared with vLLM alone, training compared with TRL alone, a swap with its proof, sleep and wake, memory compared with
its plan, and then the shipped configuration with its accuracies. `--small` does the same on this CPU in about two
minutes with tiny models. Each part runs in its own process, for 8 minutes at most; if one fails, the others' figures
stay.
"""

import argparse
import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LIMIT_S = 480
PARTS = ("sampling", "swap", "sleep", "training", "easy_vqa")

PEAK_TFLOPS = {"H100": 989, "H200": 989, "A100": 312, "L40S": 362, "L4": 121, "4090": 165, "B200": 2250}
"""Dense bfloat16 TFLOP/s by the makers' data sheets."""
BANDWIDTH = {"H200": 4800, "H100": 3350, "A100": 2039, "L40S": 864, "L4": 300, "4090": 1008, "B200": 8000}
"""GB/s of a card's memory by the makers' data sheets."""


@dataclass(frozen=True)
class Size:
    """The amounts of a measurement."""

    models: tuple[str, ...]
    """Models that are sampled from."""
    trained: tuple[str, ...]
    answer: int
    chains: int
    seqs: int
    items: int
    batch: int
    lora_rank: int
    checkpointing: bool
    easy_vqa: tuple[str, ...] = ()


REAL = ("qwen2.5-vl-3b", "qwen2.5-vl-7b", "llama-8b")
FULL = Size(REAL, REAL, 1000, 512, 128, 32, 4, 16, True)
SMALL = Size(
    ("idefics3-2m",), ("llama-small",), 32, 48, 32, 24, 8, 0, False,
    (
        "run.rounds=1", "questions.train_limit=200", "cold_start.rationales=16", "cold_start.direct_items=16",
        "cold_start.format_items=0", "cold_start.epochs=1.0", "sampling.questions=16", "fallback.questions=0",
        "rft.per_question=0", "rft.rationales=0", "rft.direct_items=0", "rft.format_items=0",
        "evaluation.limit=32", "gate.rule='always'", "gate.limit=32", "engine.kv_cache_gib=0.25",
    ),
)  # fmt: skip


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true", help="tiny models, on this CPU or card, in about two minutes")
    parser.add_argument("--only", choices=PARTS, help="one part alone")
    parser.add_argument("--output", type=Path, default=Path("runs"), help="where gpu.json and gpu.md are written")
    parser.add_argument("--here", nargs=2, metavar=("PART", "MODEL"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    size = SMALL if options.small else FULL
    if options.here:
        from benchmarks.gpu_parts import measure

        part, model = options.here
        print(json.dumps(measure(part, model, size)))
        return
    device = _device()
    if device is None and not options.small:
        raise SystemExit("no CUDA card is visible here; --small measures tiny models on this CPU")
    results: dict[str, Any] = {"device": device or "CPU", "small": options.small, "parts": []}
    for part, model in _work(size, options.only):
        started = time.monotonic()
        found = _in_a_process(part, model, options.small)
        seconds = round(time.monotonic() - started, 1)
        results["parts"].append({"part": part, "model": model, "seconds": seconds, **found})
        print(f"{part}, {model}: {found.get('failed') or 'done'} in {seconds:.0f} s", flush=True)
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "gpu.json").write_text(json.dumps(results, indent=1), encoding="utf-8")
    (options.output / "gpu.md").write_text(markdown(results), encoding="utf-8")
    print(f"\n{markdown(results)}\nwritten: {options.output}/gpu.json, {options.output}/gpu.md")
    if any("failed" in each for each in results["parts"]):
        sys.exit(1)


def _work(size: Size, only: str | None) -> list[tuple[str, str]]:
    """Yield (part, model); the engine's parts of one model come together, so that they share its start."""
    engine = "sampling+swap+sleep" if only is None else only
    work = [] if only in ("training", "easy_vqa") else [(engine, model) for model in size.models]
    if only in (None, "training"):
        work += [("training", model) for model in size.trained]
    if only in (None, "easy_vqa"):
        work.append(("easy_vqa", "shapes_2m"))
    return work


def _in_a_process(part: str, model: str, small: bool) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.gpu", "--here", part, model, *(["--small"] if small else [])]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=LIMIT_S)
    except subprocess.TimeoutExpired:
        return {"failed": f"took more than {LIMIT_S} s"}
    if done.returncode:
        return {"failed": (done.stderr.strip().splitlines() or ["no word"])[-1]}
    return dict(json.loads(done.stdout.splitlines()[-1]))


def _device() -> str | None:
    import torch

    return str(torch.cuda.get_device_name()) if torch.cuda.is_available() else None


def by_card(figures: dict[str, int], device: str) -> int | None:
    """A card's figure, found by a part of its name; None for a card that is not in the table."""
    return next((value for name, value in figures.items() if name in device), None)


def markdown(results: dict[str, Any]) -> str:
    """The results as one Markdown table, with one row per figure."""
    lines = [f"Device: {results['device']}{' (tiny models: --small)' if results['small'] else ''}", ""]
    lines += ["| part | model | figure | value |", "| --- | --- | --- | --- |"]
    for each in results["parts"]:
        for name, value in each.items():
            if name not in ("part", "model"):
                shown = f"{value:,.4g}" if isinstance(value, float) else str(value)
                lines.append(f"| {each['part']} | {each['model']} | {name.replace('_', ' ')} | {shown} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
