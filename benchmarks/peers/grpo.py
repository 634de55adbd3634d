"""TRL's GRPOTrainer with transformers' generation, eight chains per question, rewarded by the loop's judge.

With vLLM it does not run on a CPU: TRL 1.16's `vllm_mode = "colocate"` fails when it passes the weights to vLLM.
"""

import tempfile
from itertools import count
from typing import Any

import torch
from datasets import Dataset, Features, Image, List, Value
from transformers import AutoModelForImageTextToText, AutoProcessor, PrinterCallback
from trl import GRPOConfig, GRPOTrainer

from benchmarks.peers.clock import Clock, until
from benchmarks.peers.data import read_start
from benchmarks.peers.generate import accuracy
from benchmarks.peers.options import parse

CHAINS, SAMPLES, AT_ONCE = 6000, 8, 384
MESSAGES = List({"role": Value("string"), "content": Value("string")})


def main() -> None:
    """Do rounds of 6,000 chains until the policy is accurate enough or the time is over."""
    options = parse(__doc__)
    data = read_start(options.start, options.reported)
    model = AutoModelForImageTextToText.from_pretrained(data.model, dtype=torch.float32)
    processor = AutoProcessor.from_pretrained(data.model)
    sampling, clock = data.config.sampling, Clock()
    for number in count(1):
        rows = data.draw(options.seed, number)[: CHAINS // SAMPLES]
        features = Features({"prompt": MESSAGES, "images": List(Image()), "row": Value("int64")})
        asked: list[dict[str, Any]] = [
            {"prompt": [{"role": "user", "content": row.cot}], "images": list(row.images), "row": n}
            for n, row in enumerate(rows)
        ]

        def reward(completions: list[Any], row: list[int], rows: list[Any] = rows, **_: Any) -> list[float]:
            return [float(rows[n].is_right(said[0]["content"])) for said, n in zip(completions, row, strict=True)]

        arguments = GRPOConfig(
            output_dir=tempfile.mkdtemp(),
            learning_rate=1e-4,
            lr_scheduler_type="constant",
            num_generations=SAMPLES,
            per_device_train_batch_size=64,
            generation_batch_size=AT_ONCE,
            max_completion_length=sampling.max_tokens,
            temperature=1.0,
            num_train_epochs=1,
            seed=options.seed + number,
            bf16=False,
            use_cpu=not torch.cuda.is_available(),
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        )
        with clock.running():
            trainer = GRPOTrainer(
                model=model,
                reward_funcs=reward,
                args=arguments,
                train_dataset=Dataset.from_list(asked, features=features),
                processing_class=processor,
            )
            trainer.remove_callback(PrinterCallback)
            trainer.train()
        correct = accuracy(model, processor, data.test, sampling.max_tokens)
        clock.report(number, number * CHAINS, correct)
        if not until(number, clock, correct, options.seconds, options.enough):
            return


if __name__ == "__main__":
    main()
