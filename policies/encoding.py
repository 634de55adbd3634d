"""Turns questions into model input: chat template, token ids, image features, batches.

The sampler and the learner both go through the same `Encoder`, so they agree on every token.
"""

import json
import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from jinja2 import TemplateError
from PIL import Image
from transformers import AutoProcessor, AutoTokenizer

from policies import PolicyError, SettingError, first_line
from policies.context_length import context_length
from policies.image_cache import ImageCache
from policies.packaged_model import model_directory
from policies.prompt import NO_SETTINGS, ChatSettings
from policies.prompt import Prompt as Prompt
from policies.shards import check_shards

IGNORED = -100
"""Label of positions outside the loss (PyTorch's cross-entropy convention)."""


KNOWN_SIZES = 65536
"""Sizes of images whose number of tokens is kept."""


class Encoder:
    """Chat template, tokenizer and image processor of one model directory.

    `chat_settings` are for every prompt. Raises SettingError where the model's chat template makes nothing of them.
    """

    def __init__(
        self,
        model: str,
        load_image: Callable[[str], Image.Image],
        *,
        trust_remote_code: bool = False,
        chat_settings: ChatSettings = NO_SETTINGS,
    ) -> None:
        model = model_directory(model)
        config = load_model_config(model, trust_remote_code)
        self.is_vision = hasattr(config, "vision_config")
        self.context_length = context_length(config)
        """The most tokens that the model takes, prompt and answer together; None where its configuration is silent."""
        loader: Any = AutoProcessor if self.is_vision else AutoTokenizer
        try:
            self.processor = loader.from_pretrained(model, trust_remote_code=trust_remote_code)
        except ImportError as error:
            raise SettingError(f"{model}: {_missing_package(error)}") from error
        except (OSError, ValueError, KeyError) as error:
            kind = "processor" if self.is_vision else "tokenizer"
            raise PolicyError(f"{model}: its {kind} cannot be loaded ({first_line(error)})") from error
        self.tokenizer = self.processor.tokenizer if self.is_vision else self.processor
        if self.is_vision and not hasattr(self.processor, "image_processor"):
            raise PolicyError(f"{model}: a vision-language model without an image processor; add its files")
        if not getattr(self.processor, "chat_template", None):
            raise PolicyError(f"{model}: has no chat template; add chat_template.jinja to the directory")
        if self.tokenizer.eos_token_id is None:
            raise PolicyError(f"{model}: its tokenizer has no eos_token; set one in tokenizer_config.json")
        special = [token for token in self.tokenizer.added_tokens_decoder.items() if token[1].special]
        self._special_ids = frozenset(number for number, _ in special)
        self._special_tokens = tuple(token.content for _, token in special)
        self._special_begins = frozenset(token[:1] for token in self._special_tokens)
        self.load_image: Callable[[str], Image.Image] = ImageCache(load_image)
        self.chat_settings = chat_settings
        self._check_chat_settings(model)
        self.image_tokens = lru_cache(maxsize=KNOWN_SIZES)(self._image_tokens)
        """How many token ids images of these sizes, (width, height) in pixels each, add to their placeholders."""

    def chat(self, prompt: Prompt) -> str:
        """The prompt in the model's chat template, up to where its answer starts."""
        messages = [{"role": "user", "content": self._content(prompt)}]
        if (system := self.chat_settings.system_prompt) is not None:
            messages.insert(0, {"role": "system", "content": self._content(Prompt(system))})
        text: str = self.processor.apply_chat_template(
            messages, add_generation_prompt=True, tokenize=False, **dict(self.chat_settings.options)
        )
        return text

    def prompt_ids(self, prompt: Prompt) -> list[int]:
        """Token ids with one placeholder per image, as input of the sampler."""
        ids: list[int] = self.tokenizer(self.chat(prompt), add_special_tokens=False)["input_ids"]
        return ids

    def completion_ids(self, text: str) -> list[int]:
        """Token ids of an answer written by somebody else, with the end token."""
        words = self._without_special_tokens(text)
        ids: list[int] = self.tokenizer(words, add_special_tokens=False)["input_ids"]
        return [*ids, self.tokenizer.eos_token_id]

    def text(self, token_ids: Sequence[int]) -> str:
        """The text of token ids, without special tokens."""
        words: str = self.tokenizer.decode(list(token_ids), skip_special_tokens=True)
        return words

    def is_plain(self, completion: Sequence[int]) -> bool:
        """Whether a completion has no special token before its last: one with image tokens cannot be trained on."""
        return not self._special_ids.intersection(completion[:-1])

    def expanded_prompt_ids(self, prompt: Prompt) -> list[int]:
        """Token ids with every image placeholder expanded, as the model reads them."""
        ids: list[int] = self._encode([prompt], self._load_images([prompt]))["input_ids"][0].tolist()
        return ids

    def most_tokens(self, text: str) -> int | None:
        """At least as many as a text has token ids, from its bytes alone; None where bytes prove nothing.

        Every token of a fast tokenizer covers at least one byte of the text as its normalizer leaves it.
        """
        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        if backend is None:
            return None
        words = self._without_special_tokens(text)
        if backend.normalizer is not None:
            words = backend.normalizer.normalize_str(words)
        return len(words.encode()) + 1  # some put a space in front

    def batch(self, prompts: Sequence[Prompt], *completions: Sequence[Sequence[int]]) -> dict[str, torch.Tensor]:
        """Right-padded tensors for one or more completions of each prompt.

        Rows: every prompt with its first completion, then every prompt with its second, and so on
        (TRL's chosen-then-rejected order). Returns `input_ids`, `attention_mask`,
        `completion_mask` of shape (len(completions) * len(prompts), longest), and the model's image
        features. Nothing is ever truncated, so image tokens cannot be cut.
        """
        encoded = self._encode(prompts, self._load_images(prompts))
        shape, kept = encoded["input_ids"].shape, encoded["attention_mask"].bool()
        per_token = {k: v for k, v in encoded.items() if v.shape == shape and k != "attention_mask"}
        features = {k: v for k, v in encoded.items() if v.shape != shape}
        rows: dict[str, list[torch.Tensor]] = {k: [] for k in (*per_token, "completion_mask")}
        for side in completions:
            for row, completion in enumerate(side):
                answer = torch.tensor(completion, dtype=torch.long)
                for key, value in per_token.items():
                    prompt_part = value[row][kept[row]]
                    tail = answer if key == "input_ids" else torch.zeros_like(answer)
                    rows[key].append(torch.cat((prompt_part, tail.to(prompt_part.dtype))))
                mask = torch.zeros(int(kept[row].sum()) + len(answer), dtype=torch.long)
                mask[-len(answer) :] = 1
                rows["completion_mask"].append(mask)
        batch = {
            key: torch.nn.utils.rnn.pad_sequence(
                value, batch_first=True, padding_value=self._padding_id if key == "input_ids" else 0
            )
            for key, value in rows.items()
        }
        lengths = torch.tensor([len(mask) for mask in rows["completion_mask"]])
        batch["attention_mask"] = (torch.arange(batch["input_ids"].shape[1])[None, :] < lengths[:, None]).long()
        for key, value in features.items():
            batch[key] = torch.cat([value] * len(completions))
        return batch

    def labels(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """Labels of a batch: the completion's ids, IGNORED elsewhere."""
        return batch["input_ids"].masked_fill(batch["completion_mask"] == 0, IGNORED)

    def _content(self, prompt: Prompt) -> Any:
        words = self._without_special_tokens(prompt.text)
        if not self.is_vision:
            return words
        return [*({"type": "image"} for _ in prompt.images), {"type": "text", "text": words}]

    def _check_chat_settings(self, model: str) -> None:
        """Templates ignore what they do not ask for, so a misspelt option would do nothing."""
        template = str(self.processor.chat_template)
        for name, _ in self.chat_settings.options:
            if not re.search(rf"\b{re.escape(name)}\b", template):
                raise SettingError(
                    f"policy.chat_template_options: the chat template of {model} does not ask for {name!r};"
                    " leave it out"
                )
        if (system := self.chat_settings.system_prompt) is None:
            return
        try:
            text = self.chat(Prompt("?"))
        except TemplateError as error:
            raise SettingError(
                f"policy.system_prompt: the chat template of {model} refuses it ({first_line(error)}); leave it out, or"
                " put the text into prompts.cot and prompts.direct"
            ) from error
        if self._without_special_tokens(system).strip() not in text:
            raise SettingError(
                f"policy.system_prompt: the chat template of {model} leaves it out; put the text into prompts.cot and"
                " prompts.direct"
            )

    def _without_special_tokens(self, text: str) -> str:
        """A question is data: a special token spelled out in it must not act as one."""
        if not any(first in text for first in self._special_begins):
            return text
        for token in self._special_tokens:
            text = text.replace(token, f"{token[:1]} {token[1:]}")
        return text

    @property
    def _padding_id(self) -> int:
        pad = self.tokenizer.pad_token_id
        return int(self.tokenizer.eos_token_id if pad is None else pad)

    def _load_images(self, prompts: Sequence[Prompt]) -> list[list[Image.Image]]:
        return [[self.load_image(digest) for digest in prompt.images] for prompt in prompts] if self.is_vision else []

    def _image_tokens(self, sizes: tuple[tuple[int, int], ...]) -> int:
        if not self.is_vision or not sizes:
            return 0
        # Blank ones will do: how many tokens an image has depends on its size.
        blank, images = Prompt(" ", ("",) * len(sizes)), [Image.new("RGB", size) for size in sizes]
        return int(self._encode([blank], [images])["input_ids"].shape[1]) - len(self.prompt_ids(blank))

    def _encode(self, prompts: Sequence[Prompt], images: list[list[Image.Image]]) -> dict[str, torch.Tensor]:
        texts = [self.chat(prompt) for prompt in prompts]
        options: dict[str, Any] = {"padding": True, "return_tensors": "pt", "add_special_tokens": False}
        if self.tokenizer.pad_token is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        if not self.is_vision:
            return dict(self.tokenizer(texts, **options))
        return dict(self.processor(text=texts, images=images if any(images) else None, **options))


def is_vision_model(model: str, trust_remote_code: bool = False) -> bool:
    """Whether the model's configuration has a vision part; raises PolicyError if it cannot be read."""
    return hasattr(load_model_config(model, trust_remote_code), "vision_config")


def load_model_config(model: str, trust_remote_code: bool = False) -> Any:
    """The model's configuration as transformers reads it; raises PolicyError if it cannot be read."""
    from transformers import AutoConfig

    model = model_directory(model)
    directory = Path(model)
    if directory.exists():
        check_model_directory(directory)
    elif model.startswith(("/", ".", "~")):
        raise SettingError(f"policy.model = {model!r}: there is no such directory")
    try:
        return AutoConfig.from_pretrained(model, trust_remote_code=trust_remote_code)
    except (OSError, ValueError, KeyError) as error:
        raise PolicyError(
            f"policy.model = {model!r} is neither a model directory nor a hub id that can be reached"
            f" ({first_line(error)})"
        ) from error


def check_model_directory(directory: Path) -> None:
    """Raise PolicyError, naming the file, if a local model directory is incomplete."""
    if not (directory / "config.json").is_file():
        raise PolicyError(f"{directory}: config.json is missing; give a directory written by save_pretrained")
    try:
        config = json.loads((directory / "config.json").read_text())
    except ValueError as error:
        raise PolicyError(f"{directory}/config.json is not JSON: {error}") from error
    if not any((directory / name).is_file() for name in ("tokenizer.json", "tokenizer.model", "vocab.json")):
        raise PolicyError(f"{directory}: tokenizer.json is missing; save the tokenizer into the directory")
    processors = ("processor_config.json", "preprocessor_config.json")
    if "vision_config" in config and not any((directory / name).is_file() for name in processors):
        raise PolicyError(f"{directory}: processor_config.json is missing; save the processor into the directory")
    check_shards(directory)


def install_hint(package: str | None) -> str:
    """A hint how to install packages that a model needs beyond the locked ones."""
    if package == "torchvision":
        return f"install the torchvision that goes with torch {torch.__version__} (docs/models.md)"
    return f"install it with 'pip install {package}'"


def _missing_package(error: ImportError) -> str:
    """A line that names the package that a processor lacks, from transformers' own error."""
    said = " ".join(str(error).split())
    package = next((name for name in ("torchvision", "num2words") if name in said.lower()), error.name)
    if package is None:
        return f"its processor cannot be loaded ({said})"
    return f"its processor needs {package}, which is not installed; {install_hint(package)}"
