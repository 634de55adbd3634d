"""Sampling on several engines: compared with one in this process, and the most that one controller can serve.

`python -m benchmarks.engines runs/demo` samples the same chains of a finished run's cold start on one engine in the
process with all cores, on one behind Ray, and on one per core, each in a process of its own, in turns.
`python -m benchmarks.engines --simulated 64` lets engines sleep in place of computing. It measures the loss against the
ideal, and the most chains per second that the controller sends out and receives.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

RESULT = "RESULT "


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run_dir", type=Path, nargs="?")
    parser.add_argument("--questions", type=int, default=500)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, help="JSON file of the figures")
    parser.add_argument("--simulated", type=int, metavar="N", help="this many engines that sleep")
    parser.add_argument("--chain-seconds", type=float, default=0.05)
    parser.add_argument("--chains-per-engine", type=int, default=300)
    parser.add_argument("--arm", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.arm is not None:
        print(RESULT + json.dumps(_measure(options.run_dir, options.arm, options.questions)))
        return
    if options.simulated is not None:
        found = _simulated(options.simulated, options.chain_seconds, options.chains_per_engine)
    elif options.run_dir is not None:
        found = _compare(options.run_dir, options.questions, options.repeats)
    else:
        parser.error("give a finished run, or --simulated N")
    print(json.dumps(found, indent=2))
    if options.out is not None:
        options.out.write_text(json.dumps(found, indent=2) + "\n")


def _compare(run_dir: Path, questions: int, repeats: int) -> dict[str, Any]:
    """Tokens per second of each arm, in turns; ratios of the medians."""
    cores = len(os.sched_getaffinity(0))
    arms = ("in process", "ray, 1 engine", f"ray, {cores} engines")
    rates: dict[str, list[float]] = {arm: [] for arm in arms}
    chains: set[str] = set()
    for _ in range(repeats):
        for arm in arms:
            words = [sys.executable, "-m", "benchmarks.engines", str(run_dir), "--questions", str(questions)]
            done = subprocess.run([*words, "--arm", arm], capture_output=True, text=True, check=False)
            if done.returncode:
                raise SystemExit(f"arm {arm!r} failed:\n{done.stderr[-2000:]}")
            figures = json.loads(done.stdout.rpartition(RESULT)[2])
            rates[arm].append(figures["tokens_per_s"])
            chains.add(figures["chains_sha256"])
            print(arm, round(figures["tokens_per_s"]), "tokens/s", file=sys.stderr)
    medians = {arm: statistics.median(found) for arm, found in rates.items()}
    return {
        "tokens_per_s": {arm: round(value) for arm, value in medians.items()},
        "all": {arm: [round(rate) for rate in found] for arm, found in rates.items()},
        "ratio_to_in_process": {arm: round(value / medians["in process"], 3) for arm, value in medians.items()},
        "same_chains": len(chains) == 1,
    }


def _measure(run_dir: Path, arm: str, questions: int) -> dict[str, Any]:
    """One arm in this process: the rate of the second of two times the same requests."""
    import hashlib

    from loop.config.load import parse_config
    from loop.processes import sampler_starter
    from loop.swap_and_prove import engine_settings
    from policies.encoding import Encoder, Prompt
    from policies.sampler import Request
    from store import open_store
    from store.questions import find_questions, load_image, most_images
    from store.rounds import get_policy

    store = open_store(run_dir)
    tables = json.loads(store.value("SELECT configuration FROM run"))
    replicas = 1 if arm == "in process" else int(arm.split()[1])
    tables["engine"]["replicas"] = replicas
    if arm == "ray, 1 engine":
        tables.setdefault("cluster", {})["address"] = os.environ.get("RAY_ADDRESS") or _local_head()
    config = parse_config(tables, str(run_dir))
    encoder = Encoder(config.policy.model, lambda digest: load_image(store, digest))
    start = sampler_starter(config, store, lambda line: print(line, file=sys.stderr), lambda most: most)
    engine = start(config.policy.model, encoder, engine_settings(config, most_images(store)), 0)
    sampling = config.sampling
    asked = find_questions(store, "split = 'train' AND answers <> '[]' ORDER BY hash LIMIT ?", questions)

    def requests() -> Iterator[Request]:
        for question in asked:
            prompt = Prompt(config.prompts.lay_out(sampling.style, question.text), question.images)
            for index in range(sampling.samples):
                yield Request((question.id, index), prompt, 1.0, sampling.max_tokens, seed=question.id * 100 + index)

    weights = run_dir / get_policy(store, 1).path
    try:
        for _ in range(2):
            engine.load_weights(weights)
            started = time.monotonic()
            found = {chain.key: chain.token_ids for chain in engine.sample(requests())}
            seconds = time.monotonic() - started
    finally:
        engine.close()
    tokens = sum(map(len, found.values()))
    digest = hashlib.sha256(repr(sorted(found.items(), key=repr)).encode()).hexdigest()
    return {"chains": len(found), "tokens_per_s": tokens / seconds, "chains_sha256": digest}


def _local_head() -> str:
    """Start a Ray for this process alone, so that one engine can be behind it too; return the address of its head."""
    import ray

    ray.init("local", num_cpus=os.cpu_count(), include_dashboard=False, log_to_driver=False)
    return str(ray.get_runtime_context().gcs_address)


def _simulated(engines: int, chain_seconds: float, chains: int) -> dict[str, Any]:
    """Measure engines that sleep: chains per second compared with the ideal, and without sleep."""
    import ray
    import torch
    from safetensors.torch import save_file

    from policies.prompt import Prompt
    from policies.ray_engines.cluster import Resources
    from policies.ray_engines.engines import RayEngines
    from policies.ray_engines.images import ImageSource
    from policies.ray_engines.roster import ClusterSettings
    from policies.sampler import Request
    from tests.support.simulated_engine import StartSimulated, as_it_is

    ray.init("local", num_cpus=engines, include_dashboard=False, log_to_driver=False)
    found: dict[str, Any] = {"engines": engines}
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "model"
        model.mkdir()
        save_file({"weight": torch.zeros(4)}, model / "model.safetensors")
        images = ImageSource(lambda name: name.encode() * 1000, as_it_is)
        settings = ClusterSettings(engines, Resources(1, 0), 48)
        for name, seconds, count in (("sleeping", chain_seconds, chains), ("controller alone", 0.0, chains)):
            sampler = RayEngines(model, StartSimulated(Path(folder), seconds), images, settings, print)
            sampler.load_weights(model)
            asked = [Request(n, Prompt("question", (str(n // 8 % 500),)), 1.0, 8, n) for n in range(engines * count)]
            list(sampler.sample(asked[: engines * 20]))
            started = time.monotonic()
            answered = sum(1 for _ in sampler.sample(asked))
            took = time.monotonic() - started
            sampler.close()
            assert answered == len(asked)
            found[name] = {"chains": answered, "seconds": round(took, 2), "chains_per_s": round(answered / took, 1)}
            if seconds:
                found[name]["share_of_ideal"] = round(count * seconds / took, 3)
    ray.shutdown()
    return found


if __name__ == "__main__":
    main()
