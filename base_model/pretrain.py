"""Pretrain the shipped base vision-language model from nothing: `make base-model`.

An Idefics3 of about 1.9 million parameters learns captions and short answers on generated
scenes. It then sees shapes and colours, and has never seen a chain of thought.
"""

import argparse
import math
import random
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from tqdm import tqdm
from transformers import Idefics3Config, Idefics3ForConditionalGeneration, Idefics3Processor
from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil

from base_model.scenes import SIDE, draw_scene, write_item
from base_model.sentences import tokenizer_sentences
from base_model.tokenizer import END, PAD, train_tokenizer

PATCH, SHUFFLE = 8, 4
IMAGE_TOKENS = (SIDE // PATCH) ** 2 // SHUFFLE**2
BATCH, PEAK_LR, WARM_UP = 64, 1.5e-3, 200


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
    model = Idefics3ForConditionalGeneration(config)
    model.generation_config.eos_token_id = config.eos_token_id
    model.generation_config.pad_token_id = config.pad_token_id
    return model


def batches(processor: Idefics3Processor, seed: int) -> Iterator[dict[str, torch.Tensor]]:
    """Endless batches of generated items; the loss covers the answer and the end token only."""
    rng = random.Random(seed)
    tokenizer = processor.tokenizer
    while True:
        scenes = [draw_scene(rng) for _ in range(BATCH)]
        items = [write_item(rng, scene) for scene in scenes]
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


def learning_rate(step: int, steps: int) -> float:
    """Linear warm-up, then cosine to a twentieth of the peak."""
    if step < WARM_UP:
        return PEAK_LR * (step + 1) / WARM_UP
    progress = (step - WARM_UP) / max(1, steps - WARM_UP)
    return PEAK_LR * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * progress)))


def pretrain(output: Path, seed: int, steps: int) -> None:
    """Train for `steps` batches of 64 and write model, tokenizer and processor to `output`."""
    torch.manual_seed(seed)
    processor = make_processor()
    processor.tokenizer.padding_side = "right"
    model = make_model(processor)
    print(f"{sum(p.numel() for p in model.parameters()) / 1e6:.2f} million parameters")
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK_LR, betas=(0.9, 0.98), weight_decay=0.01)
    source, running, started = batches(processor, seed), 0.0, time.monotonic()
    model.train()
    progress = tqdm(range(steps), unit="step", mininterval=2)
    for step in progress:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, steps)
        loss = model(**next(source)).loss
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        running = loss.item() if step == 0 else 0.98 * running + 0.02 * loss.item()
        if step % 100 == 0:
            progress.set_postfix(loss=f"{running:.4f}")
    model.eval()
    model.save_pretrained(output)
    processor.save_pretrained(output)
    print(f"wrote {output} after {time.monotonic() - started:.0f} s, loss {running:.4f}")


def main() -> None:
    """Command line of `make base-model`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("models/shapes_2m"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=4000)
    options = parser.parse_args()
    pretrain(options.output, options.seed, options.steps)


if __name__ == "__main__":
    main()
