"""Pretrain the shipped base vision-language model from nothing: `make base-model`.

An Idefics3 of about 1.9 million parameters learns captions and short answers on generated scenes,
then to repeat given words, then to say in a sentence whether a named thing is there, alone and
after a caption. It then sees shapes and colours and can read a question, and has never seen a chain of
thought, nor a question that negates.
"""

import argparse
import math
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from tqdm import tqdm
from transformers import Idefics3Config, Idefics3ForConditionalGeneration, Idefics3Processor
from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil

from base_model.scenes import (
    SIDE,
    Scene,
    draw_scene,
    write_answering_item,
    write_describing_item,
    write_item,
    write_reading_item,
    write_telling_item,
)
from base_model.sentences import tokenizer_sentences
from base_model.tokenizer import END, PAD, train_tokenizer

PATCH, SHUFFLE = 8, 4
IMAGE_TOKENS = (SIDE // PATCH) ** 2 // SHUFFLE**2
BATCH, WARM_UP = 64, 200


def write_scene(rng: random.Random, scene: Scene, _: int) -> tuple[str, str]:
    """Stage 1: captions and short answers."""
    return write_item(rng, scene)


def write_reading(rng: random.Random, scene: Scene, n: int) -> tuple[str, str]:
    """Stage 2: every other item repeats words."""
    return write_reading_item(rng) if n % 2 else write_item(rng, scene)


def write_telling(rng: random.Random, scene: Scene, n: int) -> tuple[str, str]:
    """Stage 3: every other item says whether a named thing is there, every fourth repeats words."""
    if n % 2:
        return write_telling_item(rng, scene)
    return write_reading_item(rng) if n % 4 else write_item(rng, scene)


def write_describing(rng: random.Random, scene: Scene, n: int) -> tuple[str, str]:
    """Stage 4: every other item captions first and then says whether a named thing is there."""
    return write_describing_item(rng, scene) if n % 2 else write_telling(rng, scene, n // 2)


def write_answering(rng: random.Random, scene: Scene, n: int) -> tuple[str, str]:
    """Stage 5: every other item asks for a short answer."""
    return write_answering_item(rng, scene) if n % 2 else write_describing(rng, scene, n // 2)


@dataclass(frozen=True)
class Stage:
    """`write` makes the n-th item of a batch; `steps` batches at a learning rate of at most `peak`."""

    write: Callable[[random.Random, Scene, int], tuple[str, str]]
    steps: int
    peak: float


STAGES = {
    "scenes": Stage(write_scene, 4000, 1.5e-3),
    "reading": Stage(write_reading, 2000, 1e-3),
    "telling": Stage(write_telling, 1000, 1e-3),
    "describing": Stage(write_describing, 800, 1e-3),
    "answering": Stage(write_answering, 300, 5e-4),
}


def make_processor() -> Idefics3Processor:
    """Tokenizer and image processor; a 64x64 image becomes IMAGE_TOKENS image tokens."""
    image_processor = Idefics3ImageProcessorPil(
        size={"longest_edge": SIDE}, max_image_size={"longest_edge": SIDE}, do_image_splitting=False
    )
    tokenizer = train_tokenizer(tokenizer_sentences())
    return Idefics3Processor(
        image_processor, tokenizer, image_seq_len=IMAGE_TOKENS, chat_template=tokenizer.chat_template
    )


def make_model(processor: Idefics3Processor) -> Idefics3ForConditionalGeneration:
    """Random weights. Standard deviations near 1/sqrt(width): with 0.02 it never learns shapes."""
    tokenizer = processor.tokenizer
    config = Idefics3Config(
        vision_config={
            "hidden_size": 128,
            "intermediate_size": 512,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "image_size": SIDE,
            "patch_size": PATCH,
            "initializer_range": 0.08,
            "pad_token_id": None,
        },
        text_config={
            "model_type": "llama",
            "hidden_size": 160,
            "intermediate_size": 416,
            "num_hidden_layers": 3,
            "num_attention_heads": 5,
            "num_key_value_heads": 5,
            "head_dim": 32,
            "vocab_size": len(tokenizer),
            "max_position_embeddings": 512,
            "initializer_range": 0.06,
            "tie_word_embeddings": True,
            "pad_token_id": tokenizer.convert_tokens_to_ids(PAD),
            "bos_token_id": None,
            "eos_token_id": tokenizer.convert_tokens_to_ids(END),
        },
        scale_factor=SHUFFLE,
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        tie_word_embeddings=True,
        pad_token_id=tokenizer.convert_tokens_to_ids(PAD),
        bos_token_id=None,
        eos_token_id=tokenizer.convert_tokens_to_ids(END),
    )
    # Else transformers builds `Idefics3Config()` on each load and warns of a pad token in it.
    config.has_no_defaults_at_init = True
    model = Idefics3ForConditionalGeneration(config)
    model.generation_config.eos_token_id = config.eos_token_id
    model.generation_config.pad_token_id = config.pad_token_id
    return model


def batches(processor: Idefics3Processor, seed: int, stage: Stage) -> Iterator[dict[str, torch.Tensor]]:
    """Endless batches of generated items; the loss covers the answer and the end token only."""
    rng = random.Random(seed)
    tokenizer = processor.tokenizer
    while True:
        scenes = [draw_scene(rng) for _ in range(BATCH)]
        items = [stage.write(rng, scene, n) for n, scene in enumerate(scenes)]
        prompts = [
            processor.apply_chat_template(
                [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": request}]}],
                add_generation_prompt=True,
            )
            for request, _ in items
        ]
        encoded = processor(
            text=[p + answer + END for p, (_, answer) in zip(prompts, items, strict=True)],
            images=[[scene.image] for scene in scenes],
            padding=True,
            return_tensors="pt",
        )
        ids = encoded["input_ids"]
        position = torch.arange(ids.shape[1]).expand_as(ids)
        start = (ids == tokenizer.convert_tokens_to_ids("<|assistant|>")).int().argmax(dim=1, keepdim=True)
        supervised = (position > start) & (encoded["attention_mask"] == 1)
        encoded["labels"] = ids.masked_fill(~supervised, -100)
        yield encoded


def learning_rate(step: int, steps: int, peak: float) -> float:
    """Linear warm-up, then cosine to a twentieth of the peak."""
    if step < WARM_UP:
        return peak * (step + 1) / WARM_UP
    progress = (step - WARM_UP) / max(1, steps - WARM_UP)
    return peak * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * progress)))


def train(model: Idefics3ForConditionalGeneration, processor: Idefics3Processor, stage: Stage, seed: int) -> float:
    """Train for the stage's steps, batches of 64 items; the mean loss of the last steps in nats a token."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=stage.peak, betas=(0.9, 0.98), weight_decay=0.01)
    source, running = batches(processor, seed, stage), 0.0
    model.train()
    progress = tqdm(range(stage.steps), unit="step", mininterval=2)
    for step in progress:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, stage.steps, stage.peak)
        loss = model(**next(source)).loss
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        running = loss.item() if step == 0 else 0.98 * running + 0.02 * loss.item()
        if step % 100 == 0:
            progress.set_postfix(loss=f"{running:.4f}")
    model.eval()
    return running


def pretrain(output: Path, seed: int, names: list[str], start: Path | None) -> None:
    """Train the named stages, from random weights or those in `start`; model and processor go to `output`."""
    torch.manual_seed(seed)
    processor = make_processor()
    processor.tokenizer.padding_side = "right"
    model = make_model(processor) if start is None else Idefics3ForConditionalGeneration.from_pretrained(start)
    print(f"{sum(p.numel() for p in model.parameters()) / 1e6:.2f} million parameters")
    for name in names:
        started = time.monotonic()
        loss = train(model, processor, STAGES[name], seed)
        model.save_pretrained(output)
        processor.save_pretrained(output)
        print(f"{name}: wrote {output} after {time.monotonic() - started:.0f} s, loss {loss:.4f}")


def main() -> None:
    """Command line of `make base-model`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("models/shapes_2m"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=[*STAGES])
    parser.add_argument("--start", type=Path, help="weights to go on from, in place of random ones")
    options = parser.parse_args()
    pretrain(options.output, options.seed, options.stages, options.start)


if __name__ == "__main__":
    main()
