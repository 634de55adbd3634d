"""The files that `push` uploads: a policy with its card, recipe and log, or pairs and samples as a data set."""

import json
from dataclasses import dataclass
from pathlib import Path

from loop.config.schema import Config
from loop.errors import InputError
from loop.reading.accuracy_log import log_rows
from loop.reading.model_card import FILE_NAME
from store import Store
from store.rounds import get_policy

ADAPTER = "adapter"
RECIPE_TABLES = (
    *("run", "cold_start", "sampling", "fallback", "pairs", "rft", "update", "grpo", "stages", "evaluation", "gate"),
    *("prompts", "judging"),
)
LOCAL_KEYS = {("pairs", "judge_run"), ("judging", "base_url")}
"""Keys that hold paths and addresses of this machine: they are not published."""


@dataclass(frozen=True)
class HubFile:
    """One file to upload: its path in the repository, and its content or the file that holds it."""

    path: str
    content: Path | bytes

    @property
    def size(self) -> int:
        """Bytes."""
        return self.content.stat().st_size if isinstance(self.content, Path) else len(self.content)


def policy_files(store: Store, config: Config, number: int, *, adapter: bool) -> list[HubFile]:
    """A policy's weights, processor and card, or its adapter alone, with the recipe and the accuracy log.

    Raises InputError if the policy has no weights of its own on the disk, or no adapter.
    """
    policy = get_policy(store, number)
    if policy.made_by == "base":
        raise InputError(f"policy {number} is the base model as it was given; push a policy that the run made")
    directory = store.path.parent / policy.path
    if not directory.is_dir():
        raise InputError(f"the weights of policy {number} are not on the disk any more (retention.keep_every)")
    folder = directory / ADAPTER if adapter else directory
    if not folder.is_dir():
        raise InputError(f"policy {number} has no adapter; leave --adapter out")
    files = [HubFile(path.name, path) for path in sorted(folder.iterdir()) if _is_published(path)]
    if adapter and (card := directory / FILE_NAME).exists():
        files = [*(file for file in files if file.path != FILE_NAME), HubFile(FILE_NAME, card)]
    log = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in log_rows(store))
    return [
        *files,
        HubFile("recipe.toml", recipe(config).encode()),
        HubFile("accuracy_log.jsonl", log.encode()),
    ]


def _is_published(path: Path) -> bool:
    return path.is_file() and not path.name.startswith(".") and path.suffix != ".tmp"


def recipe(config: Config) -> str:
    """The settings that the policy was trained with, as tables of a configuration; nothing about this machine."""
    values = config.model_dump(mode="json")
    lines: list[str] = []
    for table in RECIPE_TABLES:
        kept = {key: value for key, value in values[table].items() if (table, key) not in LOCAL_KEYS}
        lines += [f"[{table}]", *(f"{key} = {_toml(value)}" for key, value in kept.items() if value is not None), ""]
    return "\n".join(lines)


def _toml(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {_toml(each)}" for key, each in value.items()) + "}"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007F")
