"""Models of real shapes with random weights: configuration classes of transformers, the shipped model's tokenizer."""

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoTokenizer,
    LlamaConfig,
    Qwen2_5_VLConfig,
)

from loop.config.shipped import PROJECT

SHIPPED = PROJECT / "models" / "shapes_2m"
IMAGE, VIDEO, START, END = "<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>"

LLAMA_8B = {
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "max_position_embeddings": 8192,
}
"""Llama-3.1-8B."""

LLAMA_SMALL = {
    "hidden_size": 128,
    "intermediate_size": 352,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 1024,
    "max_position_embeddings": 2048,
}

QWEN_3B = {
    "hidden_size": 2048,
    "intermediate_size": 11008,
    "num_hidden_layers": 36,
    "num_attention_heads": 16,
    "num_key_value_heads": 2,
    "tie_word_embeddings": True,
    "vocab_size": 151936,
}
"""The language model of Qwen2.5-VL-3B."""

QWEN_7B = {
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "tie_word_embeddings": False,
    "vocab_size": 152064,
}
"""The language model of Qwen2.5-VL-7B."""

QWEN_VISION = {"depth": 32, "hidden_size": 1280, "intermediate_size": 3420, "num_heads": 16}


def make_llama(folder: Path, widths: dict[str, Any], device: str) -> Path:
    """A text model, with the shipped model's tokenizer and chat template."""
    tokenizer = AutoTokenizer.from_pretrained(SHIPPED)
    tokenizer.model_max_length = widths["max_position_embeddings"]
    config = LlamaConfig(**widths, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id)
    _save(AutoModelForCausalLM, config, folder, device)
    tokenizer.save_pretrained(folder)
    return folder


def make_idefics3(folder: Path, device: str) -> Path:
    """The shipped model's shape with its processor: what there is of vision-language models without torchvision."""
    _save(AutoModelForImageTextToText, AutoConfig.from_pretrained(SHIPPED), folder, device)
    for file in SHIPPED.glob("*.json*"):
        if file.name not in ("config.json", "generation_config.json"):
            shutil.copy(file, folder)
    shutil.copy(SHIPPED / "chat_template.jinja", folder)
    return folder


def make_qwen(folder: Path, widths: dict[str, Any], device: str) -> Path:
    """A Qwen2.5-VL with its own processor classes, which need torchvision, and a tokenizer that has their tokens."""
    from transformers import Qwen2_5_VLProcessor, Qwen2VLImageProcessor, Qwen2VLVideoProcessor

    tokenizer = AutoTokenizer.from_pretrained(SHIPPED)
    tokenizer.add_special_tokens({"additional_special_tokens": [IMAGE, VIDEO, START, END]})
    tokenizer.model_max_length = 32768
    image, video, start, end = tokenizer.convert_tokens_to_ids([IMAGE, VIDEO, START, END])
    head = widths["hidden_size"] // widths["num_attention_heads"]
    sections = [head // 8, 3 * head // 16, 3 * head // 16]  # of a head's rotary halves: time, height, width
    text = {
        **widths,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "max_position_embeddings": 32768,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": sections},
    }
    config = Qwen2_5_VLConfig(
        text_config=text,
        vision_config={**QWEN_VISION, "out_hidden_size": widths["hidden_size"]},
        image_token_id=image,
        video_token_id=video,
        vision_start_token_id=start,
        vision_end_token_id=end,
        tie_word_embeddings=widths["tie_word_embeddings"],
    )
    _save(AutoModelForImageTextToText, config, folder, device)
    template = (SHIPPED / "chat_template.jinja").read_text(encoding="utf-8").replace("<image>", START + IMAGE + END)
    Qwen2_5_VLProcessor(
        image_processor=Qwen2VLImageProcessor(),
        tokenizer=tokenizer,
        video_processor=Qwen2VLVideoProcessor(),
        chat_template=template,
    ).save_pretrained(folder)
    return folder


def _save(loader: Any, config: Any, folder: Path, device: str) -> None:
    """Random weights, made where that is quick, in bfloat16 on a card and in float32 on a CPU."""
    torch.manual_seed(0)
    with torch.device(device):
        model = loader.from_config(config, dtype=torch.bfloat16 if device == "cuda" else torch.float32)
    model.save_pretrained(folder, max_shard_size="5GB")
    settings = folder / "generation_config.json"
    if settings.exists():  # vLLM would take sampling parameters from it
        settings.write_text(json.dumps({"eos_token_id": config.get_text_config().eos_token_id}))
