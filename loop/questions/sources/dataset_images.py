"""Images of a set's rows: bytes, a feature with bytes, a data URL, or a path below the set's own folder."""

import base64
import re
from pathlib import Path
from typing import Any

from loop.errors import InputError
from loop.questions.sources.jsonl import read_image

ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


def image_content(value: Any, folder: Path | None, where: str) -> bytes:
    """The bytes of an image file as a row has it; `folder` is where paths lead to, None for a set of the hub.

    Raises InputError, naming row and column, for an address: what is there may change or go while a run needs it.
    """
    if isinstance(value, dict):
        content = value.get("bytes")
        value = content if isinstance(content, bytes) and content else value.get("path")
    if isinstance(value, bytes):
        return value
    if not isinstance(value, str):
        raise InputError(f"{where}: an image must be bytes, a path or an image feature, not a {type(value).__name__}")
    if value.startswith("data:"):
        return _data_url(value, where)
    if ADDRESS.match(value):
        raise InputError(
            f"{where}: {value[:100]!r} is an address. A run keeps its images, and loads none by address: what is there"
            " may change or go. Download the images, and give their bytes, or paths below the set's folder"
        )
    if folder is None:
        raise InputError(
            f"{where}: {value[:100]!r} is a path, and a set of the hub is read without its files; download the set"
            " (hf download NAME --repo-type dataset --local-dir DIR), and give DIR as questions.path"
        )
    return read_image(folder, value, where)


def _data_url(value: str, where: str) -> bytes:
    try:
        return base64.b64decode(value.partition(",")[2], validate=True)
    except ValueError as error:
        raise InputError(f"{where}: its data URL is not base64 ({error})") from error
