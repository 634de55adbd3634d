"""Imports preference pairs into a run from a file in TRL's preference format, all of them or none."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loop.config.prompt_styles import STYLES
from loop.config.schema import Config
from loop.errors import InputError
from loop.questions.pair_lengths import PairLengths
from loop.questions.row_files import read_rows
from loop.questions.sources.jsonl import read_image
from loop.questions.splits import HELD_OUT, strictest
from loop.reporting import Reporter
from store import Store
from store.maintenance.archive import file_sha256
from store.new_questions import NewQuestion
from store.pairs import NewImportedPair, add_imported_pairs
from store.questions import find_question_id, is_benchmark, load_image, split_of, splits_of_image
from store.rounds import GATE

if TYPE_CHECKING:
    from policies.encoding import Encoder

SOURCE = SPLIT = "imported"
"""An imported question is of a split of its own: it is neither sampled nor evaluated."""


def import_pairs(store: Store, config: Config, path: Path, reporter: Reporter) -> int:
    """Keep the new pairs of a JSONL or Parquet file for the next update; returns how many were new.

    A row has `prompt`, `chosen`, `rejected` (texts or messages) and maybe `images`. A prompt made by one of the run's
    templates is divided into template and question; any other is a question in the style that the run samples. A row
    may also have `question`, `style` and `answers`, as `export` writes them. Raises InputError naming a bad row's line.
    """
    vision: bool | None = None
    lengths = PairLengths(config, lambda: _encoder(store, config))

    def pairs() -> Iterator[NewImportedPair]:
        nonlocal vision
        with reporter.bar(f"reading {path.name}", 0, "pair") as bar:
            for number, row in read_rows(path):
                pair = _pair(store, config, path, number, row, lengths)
                if isinstance(pair.question, NewQuestion) and pair.question.images:
                    vision = _reads_images(config) if vision is None else vision
                    if not vision:
                        raise InputError(f"{path}, line {number}: has images, but this run's model reads text only")
                yield pair
                bar.update()

    waiting = list(pairs())
    if not waiting:
        raise InputError(f"{path} holds no pairs; give rows with 'prompt', 'chosen' and 'rejected'")
    return add_imported_pairs(store, waiting, path.name.encode("utf-8", "backslashreplace").decode(), file_sha256(path))


def _reads_images(config: Config) -> bool:
    # Not at the top: it loads transformers, and most files are about questions that the run has.
    from policies.encoding import is_vision_model

    return is_vision_model(config.policy.model, config.policy.trust_remote_code)


def _encoder(store: Store, config: Config) -> Encoder:
    # Not at the top either: short pairs fit every model.
    from policies.encoding import Encoder

    policy = config.policy
    return Encoder(
        policy.model,
        lambda digest: load_image(store, digest),
        trust_remote_code=policy.trust_remote_code,
        chat_settings=policy.chat,
    )


def _pair(store: Store, config: Config, path: Path, number: int, row: Any, lengths: PairLengths) -> NewImportedPair:
    where = f"{path}, line {number}"
    if not isinstance(row, dict):
        raise InputError(f"{where}: must be a JSON object")
    prompt = _text({"prompt": _without_system(row.get("prompt"), config, where)}, "prompt", "user", where)
    chosen, rejected = (_text(row, side, "assistant", where) for side in ("chosen", "rejected"))
    if chosen == rejected:
        raise InputError(f"{where}: 'chosen' and 'rejected' are the same text")
    text, style = _question_and_style(prompt, config)
    text, style = row.get("question") or text, row.get("style") or style
    if not isinstance(text, str) or style not in STYLES:
        raise InputError(f"{where}: 'question' must be a text and 'style' one of {', '.join(STYLES)}")
    answers = row.get("answers") or []
    if not isinstance(answers, list) or not all(isinstance(answer, str) for answer in answers):
        raise InputError(f"{where}: 'answers' must be a list of texts")
    images = row.get("images") or []
    if not isinstance(images, list):
        raise InputError(f"{where}: 'images' must be a list")
    content = [_image(image, path.parent, where) for image in images]
    known = find_question_id(store, text, content)
    split = None if known is None else split_of(store, known)
    if split is not None and (split in (GATE, config.evaluation.split) or is_benchmark(split)):
        raise InputError(f"{where}: this question is held out (split {split!r}); a pair of it would be trained on")
    lengths.require_fit(text, style, content, (chosen, rejected), where)
    if known is not None:
        return NewImportedPair(known, style, chosen, rejected, number)
    new = NewQuestion(text, answers, content, SPLIT, SOURCE, config.questions.judge, where=where)
    for digest in new.digests:
        if (shared := strictest(splits_of_image(store, digest))) in HELD_OUT:
            raise InputError(f"{where}: its image is held out (split {shared!r}); a pair of it would be trained on")
    return NewImportedPair(new, style, chosen, rejected, number)


def _without_system(prompt: Any, config: Config, where: str) -> Any:
    """A prompt's messages without the first, if that is the run's own system prompt; raises InputError for another."""
    if not isinstance(prompt, list) or not prompt or not isinstance(prompt[0], dict):
        return prompt
    if prompt[0].get("role") != "system":
        return prompt
    if _text({"prompt": prompt[:1]}, "prompt", "system", where) != config.policy.system_prompt:
        raise InputError(f"{where}: its system prompt is not the run's policy.system_prompt; leave it out")
    return prompt[1:]


def _text(row: dict[str, Any], key: str, role: str, where: str) -> str:
    """A text, or the content of the one message that is there."""
    value = row.get(key)
    if isinstance(value, list):
        messages = [each for each in value if isinstance(each, dict)]
        if len(value) != 1 or len(messages) != 1 or messages[0].get("role") != role:
            raise InputError(f"{where}: {key!r} must be a text or one message of role {role!r}")
        value = messages[0].get("content")
        if isinstance(value, list):
            texts = [part.get("text") for part in value if isinstance(part, dict) and part.get("type") == "text"]
            value = texts[0] if len(texts) == 1 else None
    if not isinstance(value, str) or not value.strip():
        raise InputError(f"{where}: {key!r} must be a text that is not empty, or one message")
    return value


def _question_and_style(prompt: str, config: Config) -> tuple[str, str]:
    for style in STYLES:
        before, _, after = getattr(config.prompts, style).partition("{question}")
        if len(prompt) > len(before) + len(after) and prompt.startswith(before) and prompt.endswith(after):
            return prompt[len(before) : len(prompt) - len(after)], style
    return prompt, config.sampling.style


def _image(image: Any, folder: Path, where: str) -> bytes:
    """Bytes as Parquet has them, a data URL, or the path of a file beside this one; never a remote address."""
    if isinstance(image, dict) and isinstance(image.get("bytes"), bytes):
        return bytes(image["bytes"])
    if isinstance(image, dict):
        image = image.get("path")
    if not isinstance(image, str):
        raise InputError(f"{where}: an image must be bytes, a data URL or the path of a file beside {folder}")
    if not image.startswith("data:"):
        return read_image(folder, image, where)
    try:
        return base64.b64decode(image.partition(",")[2], validate=True)
    except ValueError as error:  # letters that are no ASCII are not of binascii.Error
        raise InputError(f"{where}: an image's data URL is not base64 ({error})") from error
