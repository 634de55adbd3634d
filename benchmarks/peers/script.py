"""A script with the loop's recipe: transformers' `generate`, the judge, TRL's trainers; only the weights are kept.

`--one-pair` trains as most scripts do: DPO on one right and one wrong chain per question, drawn at random.
"""

import random
import tempfile
from collections import defaultdict
from itertools import count
from typing import Any

import torch
from datasets import Dataset, Features, Image, List, Value
from transformers import AutoModelForImageTextToText, AutoProcessor, PrinterCallback
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

from benchmarks.peers.clock import Clock, until
from benchmarks.peers.data import Data, Row, read_start
from benchmarks.peers.generate import Output, accuracy, sample
from benchmarks.peers.options import parse

MESSAGES = List({"role": Value("string"), "content": Value("string")})
COMMON: dict[str, Any] = {
    "per_device_train_batch_size": 32,
    "lr_scheduler_type": "cosine",
    "warmup_steps": 0.03,
    "max_length": None,
    "bf16": False,
    "use_cpu": not torch.cuda.is_available(),
    "save_strategy": "no",
    "report_to": "none",
    "disable_tqdm": True,
}


def main() -> None:
    """Do rounds until the policy is accurate enough or the time is over."""
    options = parse(__doc__, ("--one-pair",))
    data = read_start(options.start, options.reported)
    model = AutoModelForImageTextToText.from_pretrained(data.model, dtype=torch.float32)
    processor = AutoProcessor.from_pretrained(data.model)
    sampling, clock, chains = data.config.sampling, Clock(), 0
    for number in count(1):
        draw = random.Random(f"{options.seed}/{number}/train")
        torch.manual_seed(options.seed * 1000 + number)
        with clock.running():
            rows = data.draw(options.seed, number)
            outputs = list(sample(model, processor, rows, sampling.samples, sampling.max_tokens))
            chains += len(outputs)
            if not options.one_pair:
                train(model, processor, imitated(data, outputs, draw), SFTTrainer, _sft_options(data), options.seed)
            pairs = preferred(outputs, draw, likeliest=not options.one_pair)
            train(model, processor, pairs, DPOTrainer, _dpo_options(data, options.one_pair), options.seed)
        correct = accuracy(model, processor, data.test, sampling.max_tokens)
        clock.report(number, chains, correct)
        if not until(number, clock, correct, options.seconds, options.enough):
            return


def imitated(data: Data, outputs: list[Output], draw: random.Random) -> list[dict[str, Any]]:
    """The likeliest right chain per question, the teacher's rationales, and direct answers."""
    rft, best = data.config.rft, dict[int, Output]()
    for output in sorted((each for each in outputs if each.right), key=lambda each: each.logprob):
        best[output.row.question.id] = output
    direct = draw.sample(data.train, rft.direct_items)
    return [
        *(_row(output.row, output.row.cot, completion=output.text) for output in best.values()),
        *(_row(row, row.cot, completion=text) for row, text in data.rationales[: rft.rationales]),
        *(_row(row, row.direct, completion=row.question.answers[0]) for row in direct),
    ]


def preferred(outputs: list[Output], draw: random.Random, *, likeliest: bool) -> list[dict[str, Any]]:
    """One right and one wrong chain of each question that has both."""
    by_question = defaultdict[int, list[Output]](list)
    for output in outputs:
        by_question[output.row.question.id].append(output)
    rows = []
    for group in by_question.values():
        right, wrong = ([each for each in group if each.right is kind] for kind in (True, False))
        if not right or not wrong:
            continue
        chosen, rejected = (
            max(some, key=lambda each: each.logprob) if likeliest else draw.choice(some) for some in (right, wrong)
        )
        rows.append(_row(chosen.row, chosen.row.cot, chosen=chosen.text, rejected=rejected.text))
    return rows


def _row(row: Row, prompt: str, **answers: str) -> dict[str, Any]:
    said = {name: [{"role": "assistant", "content": text}] for name, text in answers.items()}
    return {"prompt": [{"role": "user", "content": prompt}], "images": list(row.images), **said}


def _sft_options(data: Data) -> SFTConfig:
    rft = data.config.rft
    return SFTConfig(
        output_dir=tempfile.mkdtemp(), learning_rate=rft.learning_rate, num_train_epochs=rft.epochs, **COMMON
    )


def _dpo_options(data: Data, plain: bool) -> DPOConfig:
    update = data.config.update
    losses = {"sigmoid": 1.0} if plain else update.losses
    return DPOConfig(
        output_dir=tempfile.mkdtemp(),
        learning_rate=update.learning_rate,
        num_train_epochs=update.epochs,
        beta=update.beta,
        loss_type=list(losses),
        loss_weights=list(losses.values()),
        **COMMON,
    )


def train(
    model: Any, processor: Any, rows: list[dict[str, Any]], trainer: type[Any], arguments: Any, seed: int
) -> None:
    """One epoch of TRL's trainer on rows of messages and images, in place."""
    if not rows:
        return
    processor.tokenizer.padding_side = "right"
    arguments.seed = seed
    answers = [name for name in rows[0] if name not in ("prompt", "images")]
    features = Features({"prompt": MESSAGES, "images": List(Image()), **dict.fromkeys(answers, MESSAGES)})
    dataset = Dataset.from_list(rows, features=features)
    running = trainer(model=model, args=arguments, train_dataset=dataset, processing_class=processor)
    running.remove_callback(PrinterCallback)
    running.train()


if __name__ == "__main__":
    main()
