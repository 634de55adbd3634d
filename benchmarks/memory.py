"""Compares planned with measured memory: sampling, training and scoring, each in its own process.

`python -m benchmarks.memory [--model shapes_2m | smollm2] [--case NAME]`. Every sequence has the longest length, so
that plan and measurement are of the same batch. Prints a Markdown table.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from loop.config.load import load_config
from loop.config.schema import Config
from loop.planning import peaks
from loop.planning.lengths import Longest, Questions, longest_of_questions
from loop.planning.memory import MIB, Memory
from loop.planning.model_shape import read_shape
from loop.planning.plan import make_plan
from loop.swap_and_prove import engine_settings
from loop.training.stages import training_settings
from policies.encoding import Encoder, Prompt
from policies.learner.dpo import Dpo
from policies.learner.items import PairItem
from policies.learner.learner import LocalLearner
from policies.packaged_model import model_directory
from policies.sampler import Request
from policies.verifier import ScoredChain
from policies.vllm_engine import VllmEngine

CONFIGS = {"shapes_2m": "easy_vqa", "smollm2": "smollm2"}
ANSWER, IMAGES, CHAINS, STEPS, LORA_RANK, CACHE_GIB = 64, 64, 256, 3, 16, 0.25
PAIRS = {"shapes_2m": 32, "smollm2": 4}
QUESTION = "How many of the things that you see here are neither red nor round, and why is that so?"


@dataclass(frozen=True)
class Case:
    """One measurement: the configuration's own values over the shipped ones, and what is done."""

    phase: str
    keys: dict[str, object]
    work: Callable[["Setting"], None]


@dataclass(frozen=True)
class Setting:
    """The inputs of every measurement: configuration, encoder, run directory, longest question."""

    config: Config
    encoder: Encoder
    directory: Path
    longest: Longest

    def prompt(self, number: int) -> Prompt:
        """The question, with an image of its own where the model sees."""
        return Prompt(
            self.config.prompts.lay_out("cot", QUESTION),
            (f"{number % IMAGES}",) if self.encoder.is_vision else (),
        )

    def completion(self) -> tuple[int, ...]:
        """Words at random, as many as the longest answer has tokens."""
        size = len(self.encoder.tokenizer)
        plain = [n for n in range(size // 2, size) if self.encoder.is_plain((n, 0))]
        return (*random.choices(plain, k=self.longest.answer - 1), self.encoder.tokenizer.eos_token_id)


def _sample(setting: Setting) -> None:
    engine = VllmEngine(str(setting.directory), setting.encoder, engine_settings(setting.config, 1), 0)
    engine.load_weights(setting.directory)
    requests = (Request(n, setting.prompt(n), 1.0, setting.longest.answer, seed=n) for n in range(CHAINS))
    for _ in engine.sample(requests):
        pass
    engine.close()


def _train(setting: Setting) -> None:
    learner = LocalLearner(setting.encoder, dtype=setting.config.learner.dtype)
    settings = training_settings(setting.config.update, setting.config.learner, 0)
    pairs = [
        PairItem(setting.prompt(n), setting.completion(), setting.completion())
        for n in range(STEPS * settings.batch_size)
    ]
    with tempfile.TemporaryDirectory() as folder:
        dpo = Dpo(ema_steps=STEPS + 1 if setting.config.update.reference == "ema" else None)
        learner.train(dpo, learner.load(setting.directory), pairs, settings, Path(folder), lambda *_: None)


def _score(setting: Setting) -> None:
    learner = LocalLearner(setting.encoder, dtype=setting.config.learner.dtype)
    chains = [ScoredChain(setting.prompt(n), setting.completion()) for n in range(16)]
    learner.token_logprobs(learner.load(setting.directory), chains)


CASES = {
    "sampling": Case("sampling", {"engine.kv_cache_gib": CACHE_GIB, "grpo.groups": "mixed"}, _sample),
    "training, full float32": Case("update", {}, _train),
    "training, full float32, a second model as reference": Case("update", {"update.reference": "ema"}, _train),
    "training, full, checkpointing": Case("update", {"update.gradient_checkpointing": True}, _train),
    "training, full bfloat16": Case("update", {"learner.dtype": "bfloat16"}, _train),
    f"training, LoRA of rank {LORA_RANK}": Case("update", {"update.lora_rank": LORA_RANK}, _train),
    f"training, LoRA of rank {LORA_RANK}, bfloat16": Case(
        "update", {"update.lora_rank": LORA_RANK, "learner.dtype": "bfloat16"}, _train
    ),
    f"training, LoRA of rank {LORA_RANK}, checkpointing": Case(
        "update", {"update.lora_rank": LORA_RANK, "update.gradient_checkpointing": True}, _train
    ),
    "scoring": Case("scoring", {"grpo.groups": "mixed"}, _score),  # with GRPO the plan is of 16 chains at once
}


def measure(model: str, name: str) -> dict[str, Any]:
    """Plan and peak of one case, in bytes above the process before its first model."""
    case = CASES[name]
    keys = {"pairs.per_question": 1, "update.batch_size": PAIRS[model], "sampling.max_tokens": ANSWER, **case.keys}
    said = [f"{key}={json.dumps(value)}" for key, value in keys.items()]
    config = load_config(CONFIGS[model], said)
    directory = Path(model_directory(config.policy.model))
    encoder = Encoder(str(directory), lambda digest: Image.new("RGB", (64, 64), (3 * int(digest), 90, 200)))
    shape = read_shape(str(directory))
    sizes = [((64, 64),)] if encoder.is_vision else []
    questions = Questions([QUESTION], sizes, IMAGES if sizes else 0, IMAGES * 64 * 64 if sizes else 0)
    longest = longest_of_questions(config, encoder, questions, shape.patch_values)
    plan: Memory = make_plan(config, shape, longest, None).phase(case.phase).host
    before = peaks.resident() or 0
    if not peaks.begin_stretch():
        raise SystemExit("this machine does not let a process reset its peak (/proc/self/clear_refs)")
    case.work(Setting(config, encoder, directory, longest))
    return {"planned": plan.peak, "measured": (peaks.peak() or 0) - before, "parts": plan.parts}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", choices=CONFIGS)
    parser.add_argument("--case", choices=CASES)
    parser.add_argument("--here", action="store_true", help="measure one case in this process and print JSON")
    options = parser.parse_args()
    if options.here:
        print(json.dumps(measure(options.model, options.case)))
        return
    print("| model | phase | planned MiB | measured MiB | planned / measured |\n| --- | --- | --- | --- | --- |")
    for model in [options.model] if options.model else CONFIGS:
        for name in [options.case] if options.case else CASES:
            command = [sys.executable, "-m", "benchmarks.memory", "--model", model, "--case", name, "--here"]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise SystemExit(f"{model}, {name}: {done.stderr[-2000:]}")
            found = json.loads(done.stdout.splitlines()[-1])
            planned, measured = found["planned"], found["measured"]
            print(
                f"| {model} | {name} | {planned / MIB:,.0f} | {measured / MIB:,.0f} | {planned / measured:.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
