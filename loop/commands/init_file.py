"""`init`, the file: the proposal as TOML, each key with its reason in a comment."""

from pathlib import Path

from loop.config.toml_text import key_line
from loop.planning.proposal import Setting, Tables

ORDER = (
    "policy",
    "questions",
    "prompts",
    "teacher",
    "cold_start",
    "sampling",
    "update",
    "evaluation",
    "gate",
    "engine",
)
WIDTH = 44
"""Column in which comments stand, where the line before them leaves it free."""


def configuration_text(file: Path, tables: Tables) -> str:
    """The file's content; the path of a set below the file's folder is relative."""
    lines = [
        "# Written by init. Every key is explained in docs/configuration.md; a key that is not here has its default.",
        f"# run --config {file} --run-dir DIR starts it, inspect {file} shows what the model will see.",
    ]
    for table in sorted(tables, key=lambda name: ORDER.index(name) if name in ORDER else len(ORDER)):
        lines += ["", f"[{table}]"]
        lines += [_line(key, _placed(key, setting, file)) for key, setting in tables[table].items()]
    return "\n".join([*lines, ""])


def _placed(key: str, setting: Setting, file: Path) -> Setting:
    folder = file.absolute().parent.resolve()
    if key == "path" and Path(str(setting.value)).is_relative_to(folder):
        relative = Path(str(setting.value)).relative_to(folder)
        return setting._replace(value=f"./{relative}")
    return setting


def _line(key: str, setting: Setting) -> str:
    text = key_line(key, setting.value)
    if not setting.why:
        return text
    comment = "# " + " ".join(setting.why.split())
    return f"{text:<{WIDTH}}{comment}" if len(text) < WIDTH else f"{comment}\n{text}"
