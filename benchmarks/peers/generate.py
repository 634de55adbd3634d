"""Sampling and greedy answers with transformers' `generate`, as in a typical script."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from benchmarks.peers.data import Row

QUESTIONS_AT_ONCE = 64
"""Measured: fewer are slower here, more are not faster."""


@dataclass(frozen=True)
class Output:
    """A sampled chain with its log-probability in nats."""

    row: Row
    text: str
    logprob: float
    right: bool


def sample(model: Any, processor: Any, rows: Sequence[Row], samples: int, max_tokens: int) -> Iterator[Output]:
    """Sample `samples` chains per question at temperature 1."""
    for made in _generate(model, processor, rows, max_tokens, do_sample=True, top_k=0, num_return_sequences=samples):
        yield from made


def accuracy(model: Any, processor: Any, rows: Sequence[Row], max_tokens: int) -> float:
    """Share of right greedy answers with reasoning."""
    right = [output.right for made in _generate(model, processor, rows, max_tokens) for output in made]
    return float(sum(right) / len(right))


@torch.no_grad()  # type: ignore[untyped-decorator]
def _generate(
    model: Any, processor: Any, rows: Sequence[Row], max_tokens: int, **options: Any
) -> Iterator[list[Output]]:
    model.eval()
    processor.tokenizer.padding_side = "left"
    each, end = options.get("num_return_sequences", 1), processor.tokenizer.eos_token_id
    options = {"do_sample": False, "max_new_tokens": max_tokens, "eos_token_id": end, "pad_token_id": end, **options}
    for start in range(0, len(rows), QUESTIONS_AT_ONCE):
        some = rows[start : start + QUESTIONS_AT_ONCE]
        inputs = processor(
            text=[chat(processor, row) for row in some],
            images=[list(row.images) for row in some],
            padding=True,
            add_special_tokens=False,
            return_tensors="pt",
        )
        made = model.generate(**inputs, **options, return_dict_in_generate=True, output_scores=True)
        given = made.sequences[:, inputs["input_ids"].shape[1] :]
        scores = model.compute_transition_scores(made.sequences, made.scores, normalize_logits=True)
        ended = (given == end).cumsum(1)
        own = (ended == 0) | ((given == end) & (ended == 1))
        logprobs = scores.masked_fill(~own, 0).sum(1).tolist()
        texts = processor.batch_decode(given.masked_fill(~own, end), skip_special_tokens=True)
        stopped = (ended[:, -1] > 0).tolist()
        yield [
            Output(some[n // each], text, logprobs[n], some[n // each].is_right(text, stopped=stopped[n]))
            for n, text in enumerate(texts)
        ]


def chat(processor: Any, row: Row) -> str:
    """The prompt in the model's chat template."""
    content = [*({"type": "image"} for _ in row.images), {"type": "text", "text": row.cot}]
    text: str = processor.apply_chat_template(
        [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
    )
    return text
