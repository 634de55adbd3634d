"""The loop compared with vLLM and TRL alone: sampling with `LLM.generate`, training with `DPOTrainer`.

Run on a finished run: `python -m benchmarks.throughput runs/demo`. Everything is measured in this
one process, the two sides of each comparison in turns, and reported as medians and their ratio.
"""

import argparse
import json
import logging
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset, Image
from transformers import PrinterCallback
from trl import DPOConfig, DPOTrainer
from vllm import SamplingParams

from loop.config.load import parse_config
from loop.config.schema import Config
from loop.context import Context
from loop.evaluation.seeds import sample_seed
from loop.phases.sample import sample
from loop.run_log import run_log
from loop.swap_and_prove import serve_policy
from loop.terminal.console import Console
from loop.training.stages import STAGES, training_settings
from loop.training.training_items import pair_items
from policies import vllm_engine
from policies.encoding import Encoder
from policies.learner.dpo import Dpo
from policies.learner.learner import LocalLearner
from policies.vllm_engine import VllmEngine
from store import Store, open_store
from store.database import now
from store.questions import Question, find_questions, load_image
from store.rounds import get_policy, get_round, start_round

FIRST_BENCHMARK_ROUND = 1_000_000


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run_dir", type=Path)
    parser.add_argument("--questions", type=int, default=250)
    parser.add_argument("--pairs", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--block-tokens", type=int, help="of the CPU backend's cache, in place of the engine's own")
    options = parser.parse_args()
    if options.block_tokens is not None:
        vllm_engine.CPU_BLOCK_TOKENS = options.block_tokens
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        shutil.copy(options.run_dir / "store.db", copy)
        shutil.copytree(options.run_dir / "policies", copy / "policies", symlinks=True)
        with run_log(copy):
            ctx = _context(copy)
            print(json.dumps(_sampling(ctx, options.questions, options.repeats)))
            print(json.dumps(_training(ctx, options.pairs, options.repeats)))


def _context(run_dir: Path) -> Context:
    store = open_store(run_dir)
    config = parse_config(json.loads(store.value("SELECT configuration FROM run")), str(run_dir))
    encoder = Encoder(config.policy.model, lambda digest: load_image(store, digest))
    with store.transaction():
        session = store.connection.execute("INSERT INTO session (pid, started) VALUES (0, ?)", (now(),)).lastrowid
    assert session is not None
    learner = LocalLearner(encoder)
    return Context(run_dir, config, store, encoder, Console(quiet=True), session, learner, VllmEngine, STAGES)


def _sampling(ctx: Context, questions: int, repeats: int) -> dict[str, Any]:
    """Tokens/s of the loop's sampling phase (store included) and of LLM.generate on the same prompts."""
    state = get_round(ctx.store, 1)
    chosen = find_questions(
        ctx.store, "id IN (SELECT question FROM round_question WHERE round = 1) ORDER BY id LIMIT ?", questions
    )
    engine = serve_policy(ctx, state.serving_policy, 1)
    assert isinstance(engine, VllmEngine)
    loop_rates, bare_rates = [], []
    for turn in range(repeats + 1):
        engine.load_weights(ctx.policy_directory(get_policy(ctx.store, state.serving_policy).path))
        loop_rate = _loop_sampling(ctx, chosen, FIRST_BENCHMARK_ROUND + turn, state.serving_policy)
        engine.load_weights(ctx.policy_directory(get_policy(ctx.store, state.serving_policy).path))
        bare_rate = _bare_sampling(ctx, engine, chosen, FIRST_BENCHMARK_ROUND + turn)
        if turn:
            loop_rates.append(loop_rate)
            bare_rates.append(bare_rate)
    return _ratio("sampling, tokens/s", loop_rates, bare_rates)


def _loop_sampling(ctx: Context, questions: list[Question], number: int, serving: int) -> float:
    start_round(ctx.store, number, "sample", serving, [question.id for question in questions])
    started = time.monotonic()
    sample(ctx, get_round(ctx.store, number))
    seconds = time.monotonic() - started
    tokens: int = ctx.store.value("SELECT sum(tokens) FROM sample WHERE round = ?", number)
    return tokens / seconds


def _bare_sampling(ctx: Context, engine: VllmEngine, questions: list[Question], number: int) -> float:
    config = ctx.config.sampling
    prompts, parameters = [], []
    for question in questions:
        text = ctx.encoder.chat(ctx.prompt(question, config.style))
        images = [load_image(ctx.store, digest) for digest in question.images]
        for index in range(config.samples):
            prompts.append({"prompt": text, "multi_modal_data": {"image": images}} if images else text)
            parameters.append(
                SamplingParams(
                    temperature=config.temperature,
                    max_tokens=config.max_tokens,
                    seed=sample_seed(ctx.config.run.seed, number, question.id, index),
                    logprobs=0,
                )
            )
    llm = engine._llm
    started = time.monotonic()
    outputs = llm.generate(prompts, parameters, use_tqdm=False)
    seconds = time.monotonic() - started
    return sum(len(output.outputs[0].token_ids) for output in outputs) / seconds


def _training(ctx: Context, pairs: int, repeats: int) -> dict[str, Any]:
    """Pairs/s of the loop's learner and of DPOTrainer fed with messages and images."""
    state = get_round(ctx.store, 1)
    items = pair_items(ctx, state)[:pairs]
    rows = ctx.store.rows(
        "SELECT chosen.question, chosen.text, rejected.text FROM pair JOIN sample AS chosen ON chosen.id = chosen"
        " JOIN sample AS rejected ON rejected.id = pair.rejected WHERE pair.round = 1 ORDER BY pair.id LIMIT ?",
        pairs,
    )
    bare_rows = _bare_rows(ctx.store, ctx.config, rows)
    directory = str(ctx.policy_directory(get_policy(ctx.store, state.serving_policy).path))
    loop_rates, bare_rates = [], []
    for turn in range(repeats + 1):
        loop_rate = _loop_training(ctx, directory, items)
        bare_rate = _bare_training(ctx, directory, bare_rows)
        if turn:
            loop_rates.append(loop_rate)
            bare_rates.append(bare_rate)
    return _ratio("training, pairs/s", loop_rates, bare_rates)


def _loop_training(ctx: Context, directory: str, items: list[Any]) -> float:
    update = ctx.config.update
    model = ctx.learner.load(directory)
    dpo = Dpo(losses=update.losses, beta=update.beta)
    started = time.monotonic()
    ctx.learner.train(
        dpo, model, items, training_settings(update, ctx.config.learner, 0), ctx.run_dir / "work", lambda *_: None
    )
    return len(items) * update.epochs / (time.monotonic() - started)


def _bare_rows(store: Store, config: Config, rows: list[Any]) -> list[dict[str, Any]]:
    ids = ",".join(str(row[0]) for row in rows)
    questions = {question.id: question for question in find_questions(store, f"id IN ({ids})")}
    template = getattr(config.prompts, config.sampling.style)
    return [
        {
            "prompt": [{"role": "user", "content": template.replace("{question}", questions[row[0]].text)}],
            "chosen": [{"role": "assistant", "content": row[1]}],
            "rejected": [{"role": "assistant", "content": row[2]}],
            "images": [load_image(store, digest) for digest in questions[row[0]].images],
        }
        for row in rows
    ]


def _bare_training(ctx: Context, directory: str, rows: list[dict[str, Any]]) -> float:
    update = ctx.config.update
    model = ctx.learner.load(directory)
    arguments = DPOConfig(
        output_dir=str(ctx.run_dir / "work"),
        per_device_train_batch_size=update.batch_size,
        num_train_epochs=update.epochs,
        learning_rate=update.learning_rate,
        beta=update.beta,
        loss_type=list(update.losses),
        loss_weights=list(update.losses.values()),
        max_length=None,
        bf16=update.mixed_precision == "bf16",
        gradient_checkpointing=update.gradient_checkpointing,
        use_cpu=not torch.cuda.is_available(),
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    dataset = Dataset.from_list(rows).cast_column("images", [Image()])
    started = time.monotonic()
    trainer = DPOTrainer(model, args=arguments, train_dataset=dataset, processing_class=ctx.encoder.processor)
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    return len(rows) * update.epochs / (time.monotonic() - started)


def _ratio(what: str, loop: list[float], bare: list[float]) -> dict[str, Any]:
    loop_median, bare_median = statistics.median(loop), statistics.median(bare)
    return {
        "what": what,
        "loop": round(loop_median, 1),
        "bare": round(bare_median, 1),
        "ratio": round(loop_median / bare_median, 3),
        "loop_runs": [round(rate, 1) for rate in loop],
        "bare_runs": [round(rate, 1) for rate in bare],
    }


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    main()
