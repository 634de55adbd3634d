"""Configuration files: a configuration laid over its recipe, checked whole before anything is loaded.

Unknown keys, wrong types and impossible combinations raise InputError with key and file.
"""

import tomllib
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from loop.config.learner import TrainingConfig
from loop.config.schema import Config
from loop.config.shipped import CONFIGS, RECIPES
from loop.errors import InputError

SCHEDULE_KEYS = frozenset(
    {
        *("recipe", "run.rounds", "evaluation.styles", "gate.patience", "gate.learning_rate_factor"),
        *("judging.base_url", "judging.concurrency", "judging.timeout_s"),
    }
)
"""Keys that may differ when a run is continued; every other key is part of what the run is."""

COLD_START_TRAINING = frozenset(f"cold_start.{name}" for name in TrainingConfig.model_fields)
"""Keys that may still differ while there is no cold start: its training may have diverged, and the teacher is paid."""

MACHINE_KEYS = frozenset({"teacher", "engine", "cluster", "learner", "retention", "tracking"})
"""Tables that say how work is done here, not what is done; they may differ too."""

PATH_KEYS = (("policy", "model"), ("questions", "path"), ("pairs", "judge_run"))


def load_config(name_or_file: str, overrides: list[str], recipe: str | None = None) -> Config:
    """Read a configuration by name (in `configs/`) or path, laid over its recipe, and apply `a.b=value` overrides.

    A recipe (`configs/recipes/`) says how the policy learns, the configuration what, and on what
    machine; where both name a key the configuration has the last word. `recipe` takes the place of
    the one that the configuration names.
    """
    path = _find(name_or_file, CONFIGS, "--config", "configuration")
    tables = _read(path)
    name = recipe or tables.pop("recipe", None)
    tables.pop("recipe", None)
    if name is not None:
        if not isinstance(name, str):
            raise InputError(f"{path}: recipe must be the name of a recipe, or a file")
        beneath = _read(_find(name, RECIPES, "--recipe" if recipe else f"{path}: recipe", "recipe"))
        tables = {"recipe": name, **_laid_over(beneath, tables)}
    return apply_overrides(tables, overrides, str(path))


def apply_overrides(tables: dict[str, Any], overrides: Sequence[str], where: str) -> Config:
    """Validate tables after `a.b=value` overrides changed them in place; raises InputError as `parse_config` does."""
    for override in overrides:
        _apply(tables, override)
    return parse_config(tables, where, [override.partition("=")[0].strip() for override in overrides])


def keys_set_by_user(name_or_file: str, overrides: Sequence[str], recipe: str | None = None) -> frozenset[str]:
    """The keys (`table.key`) that `--set` gives, or a configuration or recipe that is not one of those shipped."""
    path = _find(name_or_file, CONFIGS, "--config", "configuration")
    tables = _read(path)
    name = recipe or tables.get("recipe")
    files = [path, *([_find(str(name), RECIPES, "--recipe", "recipe")] if name is not None else [])]
    own = [_read(file) for file in files if CONFIGS not in file.resolve().parents]
    keys = [f"{table}.{key}" for each in own for table, keys in each.items() if isinstance(keys, dict) for key in keys]
    return frozenset(keys) | keys_overridden(overrides)


def keys_overridden(overrides: Sequence[str]) -> frozenset[str]:
    """The keys (`table.key`) that overrides name."""
    return frozenset(".".join(override.partition("=")[0].strip().split(".")[:2]) for override in overrides)


def _find(name_or_file: str, folder: Path, option: str, kind: str) -> Path:
    path = Path(name_or_file)
    if not path.suffix and not path.exists():
        path = folder / f"{name_or_file}.toml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in folder.glob("*.toml")))
        raise InputError(f"{option} {name_or_file}: no such {kind} or file; known: {known}")
    return path


def _read(path: Path) -> dict[str, Any]:
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not valid TOML: {error}") from error
    _resolve_paths(tables, path.resolve().parent)
    return tables


def _laid_over(beneath: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Tables of `above` over those of `beneath`, key by key; a value that is itself a table is replaced whole."""
    merged = dict(beneath)
    for name, table in above.items():
        both = isinstance(table, dict) and isinstance(beneath.get(name), dict)
        merged[name] = {**beneath[name], **table} if both else table
    return merged


def parse_config(tables: dict[str, Any], where: str, overridden: Sequence[str] = ()) -> Config:
    """Validate tables; raises InputError with one line a fault, which names the file or the option it came from."""
    try:
        return Config.model_validate(tables)
    except ValidationError as error:
        lines = []
        for fault in error.errors():
            key = ".".join(str(part) for part in fault["loc"])
            message = fault["msg"].removeprefix("Value error, ")
            if fault["type"] == "missing":
                message = "is required"
            elif fault["type"] == "extra_forbidden":
                message = f"unknown key{_meant(fault['loc'])}; see docs/configuration.md"
            named = (f"--set {key}",) if key in overridden else (where, key) if key else (where,)
            lines.append(": ".join((*named, message)))
        raise InputError("\n".join(lines)) from error


def _meant(location: tuple[int | str, ...]) -> str:
    """The known key that an unknown one is most like."""
    table: Any = Config
    for part in location[:-1]:
        field = getattr(table, "model_fields", {}).get(part)
        table = field.annotation if field is not None else None
    likely = get_close_matches(str(location[-1]), getattr(table, "model_fields", ()), 1)
    return f", did you mean {likely[0]}?" if likely else ""


def _resolve_paths(tables: dict[str, Any], base: Path) -> None:
    """Make the paths absolute that name something beside the file; a model without a leading dot is a hub's id."""
    for table, key in PATH_KEYS:
        value = tables.get(table, {}).get(key) if isinstance(tables.get(table), dict) else None
        if isinstance(value, str) and (key != "model" or value.startswith(".")):
            tables[table][key] = str((base / value).resolve())


def _apply(tables: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    parts = key.strip().split(".")
    if not equals or len(parts) < 2 or not all(parts):
        raise InputError(f"--set {override}: write it as table.key=value, for example run.rounds=5")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    table = tables
    for part in parts[:-1]:
        table = table.setdefault(part, {})
        if not isinstance(table, dict):
            raise InputError(f"--set {override}: {part} is a value, not a table")
    named = isinstance(value, str) and (key != "policy.model" or value.startswith((".", "~")))
    if named and tuple(parts) in PATH_KEYS:
        value = str(Path(value).expanduser().resolve())
    table[parts[-1]] = value


def differing_keys(old: dict[str, Any], new: dict[str, Any], free: frozenset[str] = frozenset()) -> list[str]:
    """Keys of a stored and a new configuration that differ although they may not; `free` ones may, too."""
    flat_old, flat_new = _flatten(old), _flatten(new)
    return [
        f"{key} ({flat_old.get(key)!r} in the run, {flat_new.get(key)!r} now)"
        for key in sorted(flat_old.keys() | flat_new.keys())
        if flat_old.get(key) != flat_new.get(key)
        and key not in SCHEDULE_KEYS | free
        and key.partition(".")[0] not in MACHINE_KEYS
    ]


def _flatten(tables: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tables.items():
        if isinstance(value, dict):
            flat.update(_flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat
