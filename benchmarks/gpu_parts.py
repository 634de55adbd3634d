"""The parts of `benchmarks.gpu`, each measured in its own process."""

import json
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from PIL import Image
from transformers import PrinterCallback
from trl import SFTConfig, SFTTrainer

from benchmarks import random_models
from benchmarks.gpu import BANDWIDTH, PEAK_TFLOPS, Size, by_card
from loop.config.load import load_config
from loop.planning import peaks
from loop.planning.lengths import Longest, Questions, longest_of_questions
from loop.planning.memory import GIB
from loop.planning.model_shape import read_shape
from loop.planning.plan import Plan, make_plan
from loop.swap_and_prove import engine_settings
from loop.training.stages import training_settings
from policies.encoding import Encoder, Prompt
from policies.learner.base import trainer_arguments
from policies.learner.items import SftItem
from policies.learner.learner import LocalLearner
from policies.learner.lora import lora_config
from policies.learner.sft import Sft
from policies.probe import probe_engine
from policies.sampler import Request
from policies.verifier import ScoredChain
from policies.vllm_engine import VllmEngine
from policies.weights import safetensors_files

QUESTION = "What do you see, how many of it are there, and why?"
SIDE = {"cuda": 672, "cpu": 64}
"""Pixels of a synthetic image's side."""
REPEATS = 3


def measure(parts: str, model: str, size: Size) -> dict[str, Any]:
    """Measure one part, or several of the engine's parts joined by "+"; return the figures."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    with tempfile.TemporaryDirectory() as folder:
        if parts == "easy_vqa":
            return _easy_vqa(Path(folder) / "run", size)
        bench = Bench(_model(model, Path(folder) / "model", device), size, device)
        return bench.training() if parts == "training" else bench.engine(parts.split("+"))


def _model(name: str, folder: Path, device: str) -> Path:
    makers: dict[str, Callable[[], Path]] = {
        "qwen2.5-vl-3b": lambda: random_models.make_qwen(folder, random_models.QWEN_3B, device),
        "qwen2.5-vl-7b": lambda: random_models.make_qwen(folder, random_models.QWEN_7B, device),
        "llama-8b": lambda: random_models.make_llama(folder, random_models.LLAMA_8B, device),
        "llama-small": lambda: random_models.make_llama(folder, random_models.LLAMA_SMALL, device),
        "idefics3-2m": lambda: random_models.make_idefics3(folder, device),
    }
    made = makers[name]()
    if device == "cuda":
        torch.cuda.empty_cache()
    return made


class Bench:
    """One model on one device, with the configuration that a run of it would have."""

    def __init__(self, directory: Path, size: Size, device: str) -> None:
        self.directory, self.size, self.device = directory, size, device
        side = SIDE[device]
        self.encoder = Encoder(
            str(directory), lambda digest: Image.effect_noise((side, side), 32 + int(digest) % 64).convert("RGB")
        )
        self.sees = self.encoder.is_vision
        keys: dict[str, object] = {
            "policy.model": str(directory),
            "policy.dtype": "bfloat16" if device == "cuda" else "float32",
            "sampling.max_tokens": size.answer,
            "engine.max_num_seqs": size.seqs,
            "engine.kv_cache_gib": 8.0 if device == "cuda" else 0.25,
            "engine.sleep": 1,
            "engine.probe_tolerance": 0.1,
            "rft.per_question": 1,
            "rft.batch_size": size.batch,
            "rft.lora_rank": size.lora_rank,
            "rft.gradient_checkpointing": size.checkpointing,
            "rft.mixed_precision": "bf16" if device == "cuda" else "no",
        }
        self.config = load_config("easy_vqa", [f"{key}={json.dumps(value)}" for key, value in keys.items()])
        self.shape = read_shape(str(directory))
        sizes = [((side, side),)] if self.sees else []
        asked = Questions([QUESTION], sizes, size.chains if sizes else 0, size.chains * side * side if sizes else 0)
        self.longest: Longest = longest_of_questions(self.config, self.encoder, asked, self.shape.patch_values)
        room = self.longest.tokens + 64
        self.config = load_config(
            "easy_vqa",
            [f"{key}={json.dumps(value)}" for key, value in (keys | {"engine.max_model_len": room}).items()],
        )
        card = torch.cuda.get_device_properties(0).total_memory if device == "cuda" else None
        self.plan: Plan = make_plan(self.config, self.shape, self.longest, card)

    def prompt(self, number: int) -> Prompt:
        """The question; with an image of its own where the model sees."""
        return Prompt(self.config.prompts.lay_out("cot", QUESTION), (str(number),) if self.sees else ())

    def completion(self, length: int) -> tuple[int, ...]:
        """Words at random."""
        plain = [n for n in range(20, len(self.encoder.tokenizer)) if self.encoder.is_plain((n, 0))]
        return (*random.choices(plain, k=length - 1), self.encoder.tokenizer.eos_token_id)

    def engine(self, parts: list[str]) -> dict[str, Any]:
        """Measure the wanted parts among sampling compared with vLLM alone, swaps, and sleep."""
        before = self._begin()
        started = time.monotonic()
        engine = VllmEngine(str(self.directory), self.encoder, engine_settings(self.config, 1), 0)
        found: dict[str, Any] = {"parameters": self.shape.count, "engine_start_s": time.monotonic() - started}
        if "sampling" in parts:
            engine.load_weights(self.directory)
            found |= self._sampling(engine)
            found |= self._memory("sampling", before)
        if {"swap", "sleep"} & set(parts):
            found |= self._swaps(engine, sleeps="sleep" in parts)
        engine.close()
        return found

    def _sampling(self, engine: VllmEngine) -> dict[str, Any]:
        from vllm import SamplingParams

        numbers = range(self.size.chains)
        requests = [Request(n, self.prompt(n), 1.0, self.size.answer, seed=n) for n in numbers]
        list(engine.sample(requests[: self.size.seqs]))  # what is slow only the first time
        engine.load_weights(self.directory)
        started = time.monotonic()
        tokens = sum(len(chain.token_ids) for chain in engine.sample(requests))
        ours = tokens / (time.monotonic() - started)
        engine.load_weights(self.directory)
        inputs = [engine._input(request.prompt) for request in requests]
        parameters = [SamplingParams(temperature=1.0, max_tokens=self.size.answer, seed=n, logprobs=0) for n in numbers]
        started = time.monotonic()
        outputs = engine._llm.generate(inputs, parameters, use_tqdm=False)
        bare = sum(len(output.outputs[0].token_ids) for output in outputs) / (time.monotonic() - started)
        return {
            "sampled_tokens_per_s": ours,
            "bare_vllm_tokens_per_s": bare,
            "sampling_of_bare": ours / bare,
        }

    def _swaps(self, engine: VllmEngine, *, sleeps: bool) -> dict[str, Any]:
        """A swap with its proof, compared with the least time for its bytes; sleep and wake around another swap."""
        learner = LocalLearner(self.encoder)
        items = [ScoredChain(self.prompt(n), self.completion(8)) for n in range(8)]
        if sleeps and engine.can_sleep:
            engine.sleep()
        model = learner.load(self.directory)
        scores = [sum(each) for each in learner.token_logprobs(model, items)]
        del model
        learner.free_memory()
        found: dict[str, Any] = {}
        if sleeps and engine.can_sleep:
            woken = time.monotonic()
            engine.wake("weights")
            engine.load_weights(self.directory)
            engine.wake("kv_cache")
            found["wake_with_load_s"] = time.monotonic() - woken
            asleep = time.monotonic()
            engine.sleep()
            found["sleep_s"] = time.monotonic() - asleep
            engine.wake("weights")
            engine.load_weights(self.directory)
            engine.wake("kv_cache")
        elif sleeps:
            found["sleep_s"] = "vLLM cannot sleep on this machine"
        seconds, difference = [], 0.0
        for _ in range(REPEATS):
            started = time.monotonic()
            engine.load_weights(self.directory)
            proof, _ = probe_engine(engine, scores, items, self.config.engine.probe_tolerance)
            seconds.append(time.monotonic() - started)
            difference = max(difference, proof.difference)
        size = sum(file.stat().st_size for file in safetensors_files(self.directory))
        found |= {"swap_with_proof_s": statistics.median(seconds), "probe_difference_nats": difference}
        if self.device == "cuda" and (bandwidth := by_card(BANDWIDTH, torch.cuda.get_device_name())):
            found["bytes_over_bandwidth_s"] = size / (bandwidth * 1e9)
        return found

    def training(self) -> dict[str, Any]:
        """SFT by the learner; of a text-only model also by TRL alone, on the same tokens."""
        settings = training_settings(self.config.rft, self.config.learner, 0)
        items = [SftItem(self.prompt(n), self.completion(self.size.answer)) for n in range(self.size.items)]
        tokens = self.longest.tokens * len(items)
        learner, before = LocalLearner(self.encoder), self._begin()
        with tempfile.TemporaryDirectory() as folder:
            first = items[: self.size.batch]  # what is slow only the first time
            model = learner.train(
                Sft(), learner.load(self.directory), first, settings, Path(folder), lambda *_: None
            ).model
            done = learner.train(Sft(), model, items, settings, Path(folder), lambda *_: None)
            ours = tokens / done.seconds
            found: dict[str, Any] = {"trained_tokens_per_s": ours, **self._memory("rft", before)}
            del model, done
            learner.free_memory()
            if not self.sees:
                bare = self._bare_trl(learner.load(self.directory), items, folder)
                found |= {"bare_trl_tokens_per_s": bare, "training_of_bare": ours / bare}
        if self.device == "cuda" and (peak := by_card(PEAK_TFLOPS, torch.cuda.get_device_name())):
            # Forward 2, backward 4 (2 with adapters: no gradients of weights) operations for a parameter and token.
            operations = (4 if self.size.lora_rank else 6) * self.shape.count
            found["mfu"] = operations * ours / (peak * 1e12)
        return found

    def _bare_trl(self, model: Any, items: list[SftItem], folder: str) -> float:
        settings = training_settings(self.config.rft, self.config.learner, 0)
        prompts = [self.encoder.prompt_ids(item.prompt) for item in items]
        rows = [
            {
                "input_ids": [*prompt, *item.completion],
                "completion_mask": [0] * len(prompt) + [1] * len(item.completion),
            }
            for prompt, item in zip(prompts, items, strict=True)
        ]
        arguments = trainer_arguments(settings, Path(folder) / "bare")
        for key in ("length_column_name", "train_sampling_strategy", "remove_unused_columns"):
            arguments.pop(key)
        trainer = SFTTrainer(
            model=model,
            args=SFTConfig(**arguments, max_length=None),
            train_dataset=Dataset.from_list(rows),
            processing_class=self.encoder.tokenizer,
            peft_config=lora_config(settings.lora_rank, settings.lora_alpha) if settings.lora_rank else None,
        )
        trainer.remove_callback(PrinterCallback)
        started = time.monotonic()
        trainer.train()
        return sum(len(row["input_ids"]) for row in rows) / (time.monotonic() - started)

    def _begin(self) -> int:
        before = peaks.resident() or 0
        peaks.begin_stretch()
        return before

    def _memory(self, phase: str, before: int) -> dict[str, float]:
        """Planned and measured GiB, on the card where there is one."""
        plan = self.plan.phase(phase)
        found = {
            f"{phase}_host_gib_planned": plan.host.peak / GIB,
            f"{phase}_host_gib_measured": ((peaks.peak() or 0) - before) / GIB,
        }
        if self.device == "cuda":
            found |= {
                f"{phase}_card_gib_planned": plan.card.peak / GIB,
                f"{phase}_card_gib_measured": (peaks.card_peak() or 0) / GIB,
            }
        return found


def _easy_vqa(run_dir: Path, size: Size) -> dict[str, Any]:
    """Run the shipped configuration to its end; return the accuracy after each round."""
    from loop.controller import run
    from loop.reading.accuracy_log import log_rows
    from loop.terminal.console import Console
    from store import open_store

    started = time.monotonic()
    run(load_config("easy_vqa", list(size.easy_vqa)), run_dir, Console(quiet=True))
    store = open_store(run_dir, read_only=True)
    rows = log_rows(store)
    store.close()
    return {
        "run_s": time.monotonic() - started,
        "rounds": len(rows) - 1,
        "cot_accuracy": [row["accuracy"]["cot"] and round(row["accuracy"]["cot"]["accuracy"], 4) for row in rows],
        "decisions": [row["decision"] for row in rows],
    }
