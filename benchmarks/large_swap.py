"""A model of 1.5 billion parameters in several files: published, hashed, swapped and proved, and the memory of each.

python -m benchmarks.large_swap     about 7 minutes on one core, 12 GiB of memory and 7 GB of disk

The weights are random, in the shape of Qwen2.5-1.5B and bfloat16. The learner changes every layer a little and
publishes the result. An engine that serves the weights before takes the new ones and is proved. Writes
benchmarks/results/large_swap.json.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
from PIL import Image
from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen2Config

from benchmarks.random_models import SHIPPED
from loop.planning import peaks
from policies.encoding import Encoder, Prompt
from policies.learner.learner import LocalLearner
from policies.numerics import numerics
from policies.probe import Before, probe_engine
from policies.verifier import ScoredChain
from policies.vllm_engine import EngineSettings, VllmEngine
from policies.weights import changed_share, safetensors_files, weights_sha256

RESULTS = Path("benchmarks/results/large_swap.json")
SHAPE = {
    "hidden_size": 1536,
    "intermediate_size": 8960,
    "num_hidden_layers": 28,
    "num_attention_heads": 12,
    "num_key_value_heads": 2,
    "vocab_size": 151936,
    "max_position_embeddings": 2048,
    "tie_word_embeddings": True,
}
"""Qwen2.5-1.5B: 1.54 billion parameters, of which 0.23 billion are embeddings that are the output layer too."""
SMALL = {
    **SHAPE,
    "hidden_size": 128,
    "intermediate_size": 352,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": 1024,
}
TOLERANCE = 0.1
QUESTIONS = ("How many are there?", "Name a colour.", "Is seven larger than five?", "What do you see?") * 2
T = TypeVar("T")


def measured(work: Callable[[], T]) -> tuple[T, dict[str, float]]:
    """Do the work; return its result, its seconds, and this process's bytes before it and at its peak."""
    before = peaks.resident() or 0
    peaks.begin_stretch()
    started = time.monotonic()
    found = work()
    seconds = time.monotonic() - started
    return found, {"seconds": seconds, "bytes_before": before, "bytes_peak": peaks.peak() or 0}


def encoder_of(directory: Path) -> Encoder:
    """The encoder of a model that reads text."""
    return Encoder(str(directory), lambda _: Image.new("RGB", (8, 8)))


def probe(encoder: Encoder) -> list[ScoredChain]:
    """Eight chains to prove a swap with."""
    return [
        ScoredChain(Prompt(question), tuple(encoder.completion_ids(f"### Answer: {n} red squares")))
        for n, question in enumerate(QUESTIONS)
    ]


def learn(folder: Path, shape: dict[str, Any], shard_size: str) -> dict[str, Any]:
    """Make the model, score and publish it, change it, score and publish it again."""
    tokenizer = AutoTokenizer.from_pretrained(SHIPPED)
    tokenizer.model_max_length = shape["max_position_embeddings"]
    ends = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id, "bos_token_id": None}
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(Qwen2Config(**shape, **ends), dtype=torch.bfloat16)
    model.save_pretrained(folder / "base", max_shard_size=shard_size)
    tokenizer.save_pretrained(folder / "base")
    encoder = encoder_of(folder / "base")
    learner, items = LocalLearner(encoder, dtype="bfloat16"), probe(encoder)
    found: dict[str, Any] = {"parameters": sum(parameter.numel() for parameter in model.parameters())}
    found["scores_before"] = [sum(tokens) for tokens in learner.token_logprobs(model, items)]
    with torch.no_grad():
        for parameter in model.parameters():  # each row by a factor of its own
            rows = torch.randn(len(parameter), *[1] * (parameter.dim() - 1), dtype=parameter.dtype)
            parameter.mul_(1 + 0.02 * rows)
    found["scores"] = [sum(tokens) for tokens in learner.token_logprobs(model, items)]
    found["sha256"], found["publish"] = measured(lambda: learner.publish(model, folder / "0001"))
    _, found["hash"] = measured(lambda: weights_sha256(folder / "0001"))
    files = safetensors_files(folder / "0001")
    found |= {"files": len(files), "bytes": sum(file.stat().st_size for file in files)}
    return found


def swap(folder: Path, learned: dict[str, Any]) -> dict[str, Any]:
    """Serve the weights before, and put the new ones into the running engine, proved by hash and probe."""
    encoder = encoder_of(folder / "base")
    items = probe(encoder)
    settings = EngineSettings(
        dtype="bfloat16", max_model_len=256, max_num_seqs=8, kv_cache_gib=0.25, enforce_eager=True
    )
    engine, start = measured(lambda: VllmEngine(str(folder / "base"), encoder, settings, 0))
    found: dict[str, Any] = {"engine_start": start}
    _, held = probe_engine(engine, learned["scores_before"], items, TOLERANCE)
    loaded, found["swap"] = measured(lambda: engine.load_weights(folder / "0001"))
    before = Before(learned["scores_before"], held, lambda: changed_share(folder / "base", folder / "0001", "bfloat16"))
    (proof, _), found["probe"] = measured(lambda: probe_engine(engine, learned["scores"], items, TOLERANCE, before))
    engine.close()
    return found | {"loaded_sha256": loaded, "difference": proof.difference, "moved": proof.moved, "told": proof.told}


def main() -> None:
    """Learner and engine one after the other, each in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true", help="a model of half a million parameters, in seconds")
    parser.add_argument("--folder", type=Path, help="where the models are written (a temporary folder)")
    parser.add_argument("--part", choices=["learn", "swap"], help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    if options.part:
        learned = options.folder / "learned.json"
        if options.part == "learn":
            shape, shards = (SMALL, "300KB") if options.small else (SHAPE, "2GB")
            learned.write_text(json.dumps(learn(options.folder, shape, shards)))
        else:
            print("\n" + json.dumps(swap(options.folder, json.loads(learned.read_text()))))
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        own = ["--folder", name, *(["--small"] if options.small else [])]
        command = [sys.executable, "-W", "ignore", "-m", "benchmarks.large_swap", *own]
        subprocess.run([*command, "--part", "learn"], check=True)
        learned = json.loads((folder / "learned.json").read_text())
        said = subprocess.run([*command, "--part", "swap"], check=True, stdout=subprocess.PIPE, text=True).stdout
        swapped = json.loads(said.splitlines()[-1])
    if swapped["loaded_sha256"] != learned["sha256"]:
        raise SystemExit("the engine loaded other bytes than were published")
    taken = swapped["swap"]["bytes_peak"] - swapped["swap"]["bytes_before"]
    result = {
        "machine": numerics(),
        "learner": learned,
        "engine": swapped,
        "swap_memory_over_bytes": taken / learned["bytes"],
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
