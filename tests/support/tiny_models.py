"""Tiny models of the field's architectures: random weights, real configuration and processor classes, no hub."""

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import AddedToken, AutoModelForCausalLM, AutoModelForImageTextToText, AutoTokenizer

from tests.support.command_line import BASE_MODEL

CONTEXT = 1024
TEXT = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 32,  # the smallest that vLLM's CPU attention computes
    "max_position_embeddings": CONTEXT,
    "initializer_range": 0.1,
}
VISION = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "initializer_range": 0.1,
}
MROPE = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [4, 6, 6]}


@dataclass(frozen=True)
class Architecture:
    """One of them. `needs` are modules without which its processor or vLLM reads no images; `write` makes it."""

    name: str
    write: Callable[[Path], Path]
    sees: bool = True
    needs: tuple[str, ...] = ()

    @property
    def missing(self) -> list[str]:
        """The packages of `needs` that this machine lacks."""
        return [name for name in self.needs if importlib.util.find_spec(name) is None]


def tokenizer(words: tuple[str, ...] = (), names: Mapping[str, str] | None = None, padding_side: str = "right") -> Any:
    """The shipped model's tokenizer with an architecture's own tokens; `names` are attributes that have one each."""
    made = AutoTokenizer.from_pretrained(BASE_MODEL, extra_special_tokens=dict(names or {}))
    made.add_special_tokens({"additional_special_tokens": [*words, *(names or {}).values()]})
    made.model_max_length = CONTEXT
    made.padding_side = padding_side
    return made


def template(image: str) -> str:
    """A chat template with a placeholder for each image, a system prompt and thinking that can be switched off."""
    return (
        "{%- for message in messages -%}<|{{ message['role'] }}|>"
        "{%- if message['content'] is string -%}{{ message['content'] }}"
        "{%- else -%}{%- for part in message['content'] -%}"
        "{%- if part['type'] == 'image' -%}" + image + "{%- else -%}{{ part['text'] }}{%- endif -%}"
        "{%- endfor -%}{%- endif -%}<end_of_utterance>{%- endfor -%}"
        "{%- if add_generation_prompt -%}<|assistant|>"
        "{%- if enable_thinking is defined and not enable_thinking -%}no thinking: {% endif -%}{%- endif -%}"
    )


def _save(folder: Path, loader: Any, config: Any, processor: Any) -> Path:
    torch.manual_seed(0)
    model = loader.from_config(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() == 1 and "norm" in name.lower():  # ones and zeros: as good as none
                parameter.add_(0.1 * torch.randn_like(parameter))
            if name.endswith("mm_input_projection_weight"):  # zeros: the model would be blind
                parameter.normal_(std=0.1)
    model.generation_config = transformers.GenerationConfig(eos_token_id=config.get_text_config().eos_token_id)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def _with_names_of_the_hub(folder: Path) -> Path:
    """Checkpoints of the hub have one more name in their vision tower than transformers 5 gives a new model."""
    file = folder / "model.safetensors"
    named = {
        name.replace("vision_tower.", "vision_tower.vision_model."): tensor for name, tensor in load_file(file).items()
    }
    save_file(named, file, metadata={"format": "pt"})
    return folder


def _ends(made: Any) -> dict[str, Any]:
    return {
        "vocab_size": len(made),
        "bos_token_id": None,
        "eos_token_id": made.eos_token_id,
        "pad_token_id": made.pad_token_id,
    }


def _text(config: Any, *, tied: bool) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        made = tokenizer()
        made.chat_template = template("")
        return _save(folder, AutoModelForCausalLM, config(**TEXT, **_ends(made), tie_word_embeddings=tied), made)

    return write


def qwen2_5_vl(folder: Path) -> Path:
    """Windows of attention, M-RoPE, as many tokens as an image has patches; the output layer is tied."""
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLProcessor, Qwen2VLImageProcessor, Qwen2VLVideoProcessor

    made = tokenizer(("<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>"), padding_side="left")
    config = Qwen2_5_VLConfig(
        text_config={**_without(TEXT, "head_dim"), **_ends(made), "rope_parameters": MROPE},
        vision_config={
            "depth": 2,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_heads": 2,
            "out_hidden_size": 64,
            "patch_size": 8,
            "window_size": 32,
            "fullatt_block_indexes": [1],
            "initializer_range": 0.1,
        },
        **_qwen_ids(made),
        tie_word_embeddings=True,
    )
    pixels = {"patch_size": 8, "size": {"shortest_edge": 16 * 16, "longest_edge": 96 * 96}}
    processor = Qwen2_5_VLProcessor(
        image_processor=Qwen2VLImageProcessor(**pixels),
        tokenizer=made,
        video_processor=Qwen2VLVideoProcessor(patch_size=8),
        chat_template=template("<|vision_start|><|image_pad|><|vision_end|>"),
    )
    return _save(folder, AutoModelForImageTextToText, config, processor)


def qwen3_vl(folder: Path) -> Path:
    """Features of several vision layers (deepstack), interleaved M-RoPE; the output layer is not tied."""
    from transformers import Qwen2VLImageProcessor, Qwen3VLConfig, Qwen3VLProcessor, Qwen3VLVideoProcessor

    made = tokenizer(("<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>"), padding_side="left")
    config = Qwen3VLConfig(
        text_config={**TEXT, **_ends(made), "rope_parameters": {**MROPE, "mrope_interleaved": True}},
        vision_config={
            "depth": 3,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_heads": 2,
            "out_hidden_size": 64,
            "patch_size": 8,
            "num_position_embeddings": 36,
            "deepstack_visual_indexes": [0, 1],
            "initializer_range": 0.1,
        },
        **_qwen_ids(made),
        tie_word_embeddings=False,
    )
    pixels = {"patch_size": 8, "size": {"shortest_edge": 16 * 16, "longest_edge": 96 * 96}}
    processor = Qwen3VLProcessor(
        image_processor=Qwen2VLImageProcessor(**pixels, image_mean=[0.5] * 3, image_std=[0.5] * 3),
        tokenizer=made,
        video_processor=Qwen3VLVideoProcessor(patch_size=8),
        chat_template=template("<|vision_start|><|image_pad|><|vision_end|>"),
    )
    return _save(folder, AutoModelForImageTextToText, config, processor)


def llava_next(folder: Path) -> Path:
    """An image as a whole and in tiles of the grid that fits it best, with a token at the end of each row."""
    from transformers import LlavaNextConfig, LlavaNextProcessor

    made = tokenizer(names={"image_token": "<image>"}, padding_side="left")
    grid = [[32, 64], [64, 32], [64, 64]]
    config = LlavaNextConfig(
        text_config={"model_type": "llama", **TEXT, **_ends(made)},
        vision_config={"model_type": "clip_vision_model", **VISION, "image_size": 32, "patch_size": 8},
        image_token_index=made.convert_tokens_to_ids("<image>"),
        image_grid_pinpoints=grid,
        image_seq_length=16,
        tie_word_embeddings=False,
    )
    sizes = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
    processor = LlavaNextProcessor(
        image_processor=_images("LlavaNextImageProcessor")(**sizes, image_grid_pinpoints=grid),
        tokenizer=made,
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=template("<image>"),
    )
    return _with_names_of_the_hub(_save(folder, AutoModelForImageTextToText, config, processor))


def llava_onevision(folder: Path) -> Path:
    """Tiles that are pooled where there are many; SigLIP and Qwen2, tied."""
    from transformers import LlavaOnevisionConfig, LlavaOnevisionProcessor, LlavaOnevisionVideoProcessor

    made = tokenizer(names={"image_token": "<image>", "video_token": "<video>"})
    grid = [[32, 32], [32, 64], [64, 32], [64, 64]]
    config = LlavaOnevisionConfig(
        text_config={"model_type": "qwen2", **_without(TEXT, "head_dim"), **_ends(made), "tie_word_embeddings": True},
        vision_config={
            "model_type": "siglip_vision_model",
            **VISION,
            "image_size": 32,
            "patch_size": 8,
            "vision_use_head": False,
        },
        image_token_index=made.convert_tokens_to_ids("<image>"),
        video_token_index=made.convert_tokens_to_ids("<video>"),
        image_grid_pinpoints=grid,
        tie_word_embeddings=True,
    )
    processor = LlavaOnevisionProcessor(
        image_processor=_images("LlavaOnevisionImageProcessor")(
            size={"height": 32, "width": 32}, image_grid_pinpoints=grid
        ),
        tokenizer=made,
        video_processor=LlavaOnevisionVideoProcessor(size={"height": 32, "width": 32}),
        num_image_tokens=16,
        vision_feature_select_strategy="full",
        chat_template=template("<image>"),
    )
    return _with_names_of_the_hub(_save(folder, AutoModelForImageTextToText, config, processor))


def internvl(folder: Path) -> Path:
    """Up to four tiles and a thumbnail, pixels shuffled four to one."""
    from transformers import InternVLConfig, InternVLProcessor, InternVLVideoProcessor

    names = {
        "start_image_token": "<img>",
        "end_image_token": "</img>",
        "context_image_token": "<IMG_CONTEXT>",
        "video_token": "<video>",
    }
    made = tokenizer(names=names)
    config = InternVLConfig(
        text_config={"model_type": "qwen2", **_without(TEXT, "head_dim"), **_ends(made), "tie_word_embeddings": False},
        vision_config={**VISION, "image_size": [32, 32], "patch_size": [8, 8]},
        image_token_id=made.convert_tokens_to_ids("<IMG_CONTEXT>"),
        image_seq_length=4,
        tie_word_embeddings=False,
    )
    tiles = {"size": {"height": 32, "width": 32}, "crop_to_patches": True, "min_patches": 1, "max_patches": 4}
    processor = InternVLProcessor(
        image_processor=_images("GotOcr2ImageProcessor")(**tiles),
        tokenizer=made,
        video_processor=InternVLVideoProcessor(size={"height": 32, "width": 32}),
        image_seq_length=4,
        chat_template=template("<IMG_CONTEXT>"),
    )
    return _save(folder, AutoModelForImageTextToText, config, processor)


def idefics3(folder: Path) -> Path:
    """An image in tiles, each named by row and column, and as a whole."""
    from transformers import Idefics3Config, Idefics3Processor

    made = _idefics_tokenizer()
    config = Idefics3Config(
        text_config={"model_type": "llama", **TEXT, **_ends(made), "tie_word_embeddings": True},
        vision_config={**VISION, "image_size": 32, "patch_size": 8},
        scale_factor=2,
        image_token_id=made.convert_tokens_to_ids("<image>"),
        pad_token_id=made.pad_token_id,
        tie_word_embeddings=True,
    )
    images = _images("Idefics3ImageProcessor")(size={"longest_edge": 64}, max_image_size={"longest_edge": 32})
    processor = Idefics3Processor(images, made, image_seq_len=4, chat_template=template("<image>"))
    return _save(folder, AutoModelForImageTextToText, config, processor)


def smolvlm(folder: Path) -> Path:
    """The same with SmolVLM's classes, which read videos too."""
    from transformers import SmolVLMConfig, SmolVLMProcessor, SmolVLMVideoProcessor

    made = _idefics_tokenizer("<video>")
    config = SmolVLMConfig(
        text_config={"model_type": "llama", **TEXT, **_ends(made), "tie_word_embeddings": False},
        vision_config={**VISION, "image_size": 32, "patch_size": 8},
        scale_factor=2,
        image_token_id=made.convert_tokens_to_ids("<image>"),
        pad_token_id=made.pad_token_id,
        tie_word_embeddings=False,
    )
    sizes = {"size": {"longest_edge": 64}, "max_image_size": {"longest_edge": 32}}
    videos = SmolVLMVideoProcessor(
        **sizes, video_sampling={"fps": 1, "max_frames": 4, "video_size": {"longest_edge": 32}}
    )
    processor = SmolVLMProcessor(
        _images("SmolVLMImageProcessor")(**sizes), made, videos, image_seq_len=4, chat_template=template("<image>")
    )
    return _save(folder, AutoModelForImageTextToText, config, processor)


def gemma3(folder: Path) -> Path:
    """As many tokens for every image, which attend to each other both ways; every second layer has a window."""
    from transformers import Gemma3Config, Gemma3Processor

    names = {"boi_token": "<start_of_image>", "eoi_token": "<end_of_image>", "image_token": "<image_soft_token>"}
    made = tokenizer(names=names)
    made.add_tokens([AddedToken("\n" * count, normalized=False) for count in range(1, 5)])  # vLLM asks for them
    boi, eoi, image = made.convert_tokens_to_ids(list(names.values()))
    config = Gemma3Config(
        text_config={
            **TEXT,
            **_ends(made),
            "query_pre_attn_scalar": 32,
            "sliding_window": 64,
            "layer_types": ["sliding_attention", "full_attention"],
        },
        vision_config={**VISION, "image_size": 32, "patch_size": 8, "vision_use_head": False},
        mm_tokens_per_image=4,
        boi_token_index=boi,
        eoi_token_index=eoi,
        image_token_index=image,
    )
    images = _images("Gemma3ImageProcessor")(
        size={"height": 32, "width": 32}, image_mean=[0.5] * 3, image_std=[0.5] * 3
    )
    processor = Gemma3Processor(images, made, chat_template=template("<start_of_image>"), image_seq_length=4)
    return _with_names_of_the_hub(_save(folder, AutoModelForImageTextToText, config, processor))


def _images(name: str) -> Any:
    """An image processor's class: by torchvision, or by Pillow where that is missing."""
    return getattr(transformers, name if importlib.util.find_spec("torchvision") else f"{name}Pil")


def _idefics_tokenizer(*more: str) -> Any:
    tiles = tuple(f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7))
    return tokenizer((*tiles, *more))


def _qwen_ids(made: Any) -> dict[str, int]:
    return {
        "image_token_id": made.convert_tokens_to_ids("<|image_pad|>"),
        "video_token_id": made.convert_tokens_to_ids("<|video_pad|>"),
        "vision_start_token_id": made.convert_tokens_to_ids("<|vision_start|>"),
        "vision_end_token_id": made.convert_tokens_to_ids("<|vision_end|>"),
    }


def _without(table: Mapping[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in table.items() if name != key}


ARCHITECTURES = (
    Architecture("llama", _text(transformers.LlamaConfig, tied=False), sees=False),
    Architecture("qwen3", _text(transformers.Qwen3Config, tied=True), sees=False),
    Architecture("idefics3", idefics3),
    Architecture("smolvlm", smolvlm, needs=("torchvision", "num2words")),
    Architecture("gemma3", gemma3, needs=("torchvision",)),
    Architecture("llava_next", llava_next, needs=("torchvision",)),
    Architecture("llava_onevision", llava_onevision, needs=("torchvision",)),
    Architecture("internvl", internvl, needs=("torchvision",)),
    Architecture("qwen2_5_vl", qwen2_5_vl, needs=("torchvision",)),
    Architecture("qwen3_vl", qwen3_vl, needs=("torchvision",)),
)
