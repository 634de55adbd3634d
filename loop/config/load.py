"""Reads configuration files: a configuration over its recipe, fully checked before anything is loaded.

Unknown keys, wrong types and impossible combinations raise InputError with key and file.
"""

import re
import tomllib
from collections.abc import Sequence
from copy import deepcopy
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from loop.config.dataset_keys import SOURCE, is_hub_name
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
"""Keys that may differ when a run is continued; every other key belongs to the run's identity."""

COLD_START_TRAINING = frozenset(f"cold_start.{name}" for name in TrainingConfig.model_fields)
"""Keys that may also differ before the cold start is trained: a diverged training must not lose paid rationales."""

MACHINE_KEYS = frozenset({"teacher", "engine", "cluster", "learner", "retention", "tracking"})
"""Tables about how work is done on this machine; they may differ, too."""

PATH_KEYS = (("policy", "model"), ("questions", "path"), ("pairs", "judge_run"))


def load_config(name_or_file: str, overrides: list[str], recipe: str | None = None) -> Config:
    """Read a configuration by name (in `configs/`) or path, laid over its recipe, and apply `a.b=value` overrides.

    A recipe (`configs/recipes/`) says how the policy learns; the configuration says what, and on which
    machine. If both set a key, the configuration's value is used. `recipe` replaces the recipe that the configuration
    names.
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
    without = deepcopy(tables)
    for override in overrides:
        _apply(tables, override)
    try:
        return Config.model_validate(tables)
    except ValidationError as error:
        keys = [override.partition("=")[0].strip() for override in overrides]
        own = _faults_without_overrides(without)
        raise InputError(
            "\n".join(_line(fault, where) if fault in own else _line(fault, where, keys) for fault in _faults(error))
        ) from error


def keys_set_by_user(name_or_file: str, overrides: Sequence[str], recipe: str | None = None) -> frozenset[str]:
    """The keys (`table.key`) set by `--set`, or by a configuration or recipe that is not a shipped one."""
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
    except (ValueError, RecursionError) as error:  # nested without end, a number of thousands of digits
        raise InputError(f"{path}: not valid TOML: {error}") from error
    _resolve_paths(tables, path)
    return tables


def _laid_over(beneath: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Tables of `above` over those of `beneath`, key by key; a value that is a table is replaced as a whole."""
    merged = dict(beneath)
    for name, table in above.items():
        both = isinstance(table, dict) and isinstance(beneath.get(name), dict)
        merged[name] = {**beneath[name], **table} if both else table
    return merged


def parse_config(tables: dict[str, Any], where: str) -> Config:
    """Validate tables; raises InputError with one line per fault, which names its file `where` and its key."""
    try:
        return Config.model_validate(tables)
    except ValidationError as error:
        raise InputError("\n".join(_line(fault, where) for fault in _faults(error))) from error


class _Fault(NamedTuple):
    """A fault of a configuration. `key` is `table.key`, a table if the fault is between its keys, or empty."""

    key: str
    message: str


def _faults(error: ValidationError) -> list[_Fault]:
    found = []
    for fault in error.errors():
        message = fault["msg"].removeprefix("Value error, ")
        if fault["type"] == "missing":
            message = "is required"
        elif fault["type"] == "extra_forbidden":
            message = f"unknown key{_meant(fault['loc'])}; see docs/configuration.md"
        found.append(_Fault(".".join(map(str, fault["loc"])), message))
    return found


def _faults_without_overrides(tables: dict[str, Any]) -> list[_Fault]:
    try:
        Config.model_validate(tables)
    except ValidationError as error:
        return _faults(error)
    return []


def _line(fault: _Fault, where: str, overridden: Sequence[str] = ()) -> str:
    """A fault in words: after the `--set` options that it may come from, else after its file and key."""
    key, message = fault
    likely = [name for name in overridden if f"{name}.".startswith(f"{key}." if key else "")]
    for part in (0, -1):  # those that the message names in full, else by their last part
        words = {name: ".".join(name.split(".")[part:]) for name in likely}
        likely = [name for name in likely if re.search(rf"\b{re.escape(words[name])}\b", message)] or likely
    if not likely and any(key.startswith(f"{name}.") for name in overridden):
        likely = [key]
    named = [", ".join(f"--set {name}" for name in likely)] if likely else [where, key] if key else [where]
    return ": ".join([*named, message])


def _meant(location: tuple[int | str, ...]) -> str:
    """The known key that is most similar to an unknown one."""
    table: Any = Config
    for part in location[:-1]:
        field = getattr(table, "model_fields", {}).get(part)
        table = field.annotation if field is not None else None
    likely = get_close_matches(str(location[-1]), getattr(table, "model_fields", ()), 1)
    return f", did you mean {likely[0]}?" if likely else ""


def _resolve_paths(tables: dict[str, Any], file: Path) -> None:
    """Make paths relative to the file absolute; a model without a leading dot is a hub id."""
    base = file.resolve().parent
    for table, key in PATH_KEYS:
        value = tables.get(table, {}).get(key) if isinstance(tables.get(table), dict) else None
        if not isinstance(value, str) or (key == "model" and not value.startswith(".")):
            continue
        if not _is_on_hub(tables, table, value, base):
            tables[table][key] = _resolved(base / value, f"{file}: {table}.{key}")


def _resolved(path: Path, where: str) -> str:
    try:
        return str(path.expanduser().resolve())
    except (ValueError, RuntimeError) as error:  # a NUL in it, a user without a home
        raise InputError(f"{where}: {str(path)!r} is no path ({error})") from error


def _is_on_hub(tables: dict[str, Any], table: str, value: str, base: Path) -> bool:
    """Whether `questions.path` names a set of the hub: NAME or OWNER/NAME, and no such file or folder is there."""
    own = tables.get(table)
    named = isinstance(own, dict) and table == "questions" and own.get("source") == SOURCE
    return named and is_hub_name(value) and not (base / value).exists()


def _apply(tables: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    parts = key.strip().split(".")
    if not equals or len(parts) < 2 or not all(parts):
        raise InputError(f"--set {override}: write it as table.key=value, for example run.rounds=5")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    except (ValueError, RecursionError) as error:
        raise InputError(f"--set {key}: not valid TOML: {error}") from error
    table = tables
    for part in parts[:-1]:
        table = table.setdefault(part, {})
        if not isinstance(table, dict):
            raise InputError(f"--set {override}: {part} is a value, not a table")
    named = isinstance(value, str) and (key != "policy.model" or value.startswith((".", "~")))
    if named and tuple(parts) in PATH_KEYS and not _is_on_hub(tables, parts[0], value, Path()):
        value = _resolved(Path(value), f"--set {key}")
    table[parts[-1]] = value


def differing_keys(old: dict[str, Any], new: dict[str, Any], free: frozenset[str] = frozenset()) -> list[str]:
    """Keys in which a stored and a new configuration differ although they may not; `free` ones may, too."""
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
