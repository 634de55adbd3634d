"""Preference pairs of other origin into a run: a file in TRL's preference format, all of it or nothing."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from loop.config.prompt_styles import STYLES
from loop.config.schema import Config
from loop.errors import InputError
from loop.questions.sources.jsonl import read_image
from loop.questions.splits import HELD_OUT, strictest
from loop.reporting import Reporter
from store import Store
from store.maintenance.archive import file_sha256
from store.pairs import NewImportedPair, add_imported_pairs
from store.questions import NewQuestion, find_question_id, split_of, splits_of_image
from store.rounds import GATE

SOURCE = SPLIT = "imported"
"""An imported question is of a split of its own: it is neither sampled nor evaluated."""


def import_pairs(store: Store, config: Config, path: Path, reporter: Reporter) -> int:
    """Keep the new pairs of a JSONL or Parquet file for the next update; returns how many were new.

    A row has `prompt`, `chosen`, `rejected` (texts or messages) and maybe `images`. A prompt made by one of the run's
    templates is taken apart, another one is a question asked in the style that the run samples. `question`, `style`
    and `answers`, as `export` writes them, say it outright. Raises InputError naming the line of a bad row.
    """
    vision: bool | None = None

    def pairs() -> Iterator[NewImportedPair]:
        nonlocal vision
        with reporter.bar(f"reading {path.name}", 0, "pair") as bar:
            for number, row in _rows(path):
                pair = _pair(store, config, path, number, row)
                if isinstance(pair.question, NewQuestion) and pair.question.images:
                    vision = _reads_images(config) if vision is None else vision
                    if not vision:
                        raise InputError(f"{path}, line {number}: has images, but this run's model reads text only")
                yield pair
                bar.update()

    waiting = list(pairs())
    if not waiting:
        raise InputError(f"{path} holds no pairs; give rows with 'prompt', 'chosen' and 'rejected'")
    return add_imported_pairs(store, waiting, path.name, file_sha256(path))


def _reads_images(config: Config) -> bool:
    # Not at the top: it loads transformers, and most files are about questions that the run has.
    from policies.encoding import is_vision_model

    return is_vision_model(config.policy.model, config.policy.trust_remote_code)


def _rows(path: Path) -> Iterator[tuple[int, Any]]:
    if not path.is_file():
        raise InputError(f"{path}: there is no such file")
    if path.suffix == ".parquet":
        yield from _parquet_rows(path)
        return
    try:
        with path.open(encoding="utf-8-sig") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    try:
                        row = json.loads(line)
                        json.dumps(row, ensure_ascii=False).encode()
                    except UnicodeEncodeError as error:
                        raise InputError(f"{path}, line {number}: holds half of a surrogate pair, no text") from error
                    except (ValueError, RecursionError) as error:
                        raise InputError(f"{path}, line {number}: not JSON ({error})") from error
                    yield number, row
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read: {error}; give a .jsonl or .parquet file") from error


def _parquet_rows(path: Path) -> Iterator[tuple[int, Any]]:
    import pyarrow.parquet as pq
    from pyarrow import ArrowException

    try:
        with pq.ParquetFile(path) as parquet:
            number = 0
            for batch in parquet.iter_batches(1000):
                for row in batch.to_pylist():
                    number += 1
                    yield number, row
    except (OSError, ArrowException) as error:
        raise InputError(f"{path} cannot be read: {error}; give a .jsonl or .parquet file") from error


def _pair(store: Store, config: Config, path: Path, number: int, row: Any) -> NewImportedPair:
    where = f"{path}, line {number}"
    if not isinstance(row, dict):
        raise InputError(f"{where}: must be a JSON object")
    prompt = _text(row, "prompt", "user", where)
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
    if known is not None and (split := split_of(store, known)) in (GATE, config.evaluation.split):
        raise InputError(f"{where}: this question is held out (split {split!r}); a pair of it would be trained on")
    if known is not None:
        return NewImportedPair(known, style, chosen, rejected, number)
    new = NewQuestion(text, answers, content, SPLIT, SOURCE, config.questions.judge, where=where)
    for digest in new.digests:
        if (shared := strictest(splits_of_image(store, digest))) in HELD_OUT:
            raise InputError(f"{where}: its image is held out (split {shared!r}); a pair of it would be trained on")
    return NewImportedPair(new, style, chosen, rejected, number)


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
