"""Values as TOML writes them."""

import json
import re
from typing import Any


def key_line(key: str, value: Any) -> str:
    """`key = value`; a comment where the value is None, which TOML does not have."""
    return f"# {key} is not set" if value is None else f"{key_text(key)} = {toml_text(value)}"


def key_text(key: str) -> str:
    """A key, in quotes where it needs them."""
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else json.dumps(key)


def toml_text(value: Any) -> str:
    """A value; its strings, numbers and lists are those of JSON."""
    if isinstance(value, dict):
        inside = ", ".join(f"{key_text(key)} = {toml_text(each)}" for key, each in value.items() if each is not None)
        return f"{{ {inside} }}" if inside else "{}"
    if isinstance(value, list):
        return f"[{', '.join(map(toml_text, value))}]"
    # DEL is the one character that JSON writes as it is and TOML does not take.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007F")
