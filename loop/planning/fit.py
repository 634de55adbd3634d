"""Checks that a run fits into a machine, and finds the cheapest keys that make it fit."""

from collections.abc import Callable, Iterator, Sequence

from loop.config.learner import MOVES_THE_BASE, TrainingConfig
from loop.config.schema import Config
from loop.errors import InputError
from loop.planning.machine import Machine
from loop.planning.memory import GIB
from loop.planning.plan import Plan, trained_tables

MakePlan = Callable[[Config], Plan]

Change = dict[str, object]
"""Keys ("update.batch_size") and their new values."""

SMALL_CACHE_GIB = 0.5
LORA_RANK = 16
"""Proposed changes if something does not fit."""


def faults(plan: Plan, machine: Machine) -> Iterator[str]:
    """The parts that do not fit, one line per phase and device, and the disk."""
    card = min(machine.cards, default=None)
    for phase in plan.phases:
        need = plan.host_peak(phase.name)
        if machine.host is not None and need > machine.host:
            yield f"{_title(phase.name)} needs {_gib(need)} of memory, {_gib(machine.host)} are free"
        if card is not None and (need := plan.card_peak(phase.name)) > card:
            yield f"{_title(phase.name)} needs {_gib(need)} of the card, it has {_gib(card)}"
    # A continued run already has most of its policies on disk: only new ones need room.
    if 2 * plan.policy_bytes > machine.disk:
        yield f"two policies need {_gib(2 * plan.policy_bytes)} of disk, {_gib(machine.disk)} are free"


def require_fit(config: Config, make: MakePlan, machine: Machine) -> Plan:
    """The plan; InputError, naming what does not fit and the cheapest keys that make it fit."""
    plan = make(config)
    if found := list(faults(plan, machine)):
        raise InputError(
            f"this run does not fit into memory: {'; '.join(found)}; {cure(config, make, machine)};"
            " or try it all the same with --yes"
        )
    return plan


def cure(config: Config, make: MakePlan, machine: Machine) -> str:
    """The keys that make a run fit, the cheapest first, as options of the command line."""
    needed = fitting_change(config, make, machine)
    if needed is None:
        return "no key of it makes it fit: take a smaller model or a larger machine"
    return "it fits with " + " ".join(f"--set {key}={_value(value)}" for key, value in needed.items())


def fitting_change(config: Config, make: MakePlan, machine: Machine) -> Change | None:
    """The cheapest keys that make a run fit, none where it fits as it is; None where no key does."""
    for change in ({}, *_changes(config, machine)):
        if _fits(config, change, make, machine):
            return _without_needless(config, change, make, machine)
    return None


def _changes(config: Config, machine: Machine) -> Iterator[Change]:
    """Changes that save memory. Smaller accumulated batches cost least; adapters change what is learned."""
    tables = list(trained_tables(config))
    fewer: Change = {"engine.replicas": 1} if config.engine.replicas not in (1, "auto") else {}
    if fewer:
        yield fewer
    recomputed: Change = {f"{name}.gradient_checkpointing": True for name, table in tables}
    smaller_sampler: Change = {"engine.kv_cache_gib": SMALL_CACHE_GIB}
    if machine.cards:  # if vLLM can free the card while the learner trains
        smaller_sampler = {"engine.sleep": 1}
    halved: Change = {"learner.dtype": "bfloat16", "learner.optimizer": "adamw_torch"}
    adapters: Change = {f"{name}.lora_rank": LORA_RANK for name, table in tables if not table.lora_rank}
    for more in ({}, recomputed, smaller_sampler, {**recomputed, **smaller_sampler}):
        yield from ({**fewer, **batch, **more} for batch in _smaller_batches(tables))
    if config.learner.dtype == "float32" and not any(table.lora_init.startswith(MOVES_THE_BASE) for _, table in tables):
        for more in ({}, recomputed, smaller_sampler, {**recomputed, **smaller_sampler}):
            yield from ({**fewer, **batch, **more, **halved} for batch in _smaller_batches(tables))
    if config.update.reference != "ema":  # which the configuration does not take together with adapters
        for more in ({}, recomputed, smaller_sampler, {**recomputed, **smaller_sampler}):
            yield from ({**fewer, **batch, **more, **adapters} for batch in _smaller_batches(tables))


def _smaller_batches(tables: Sequence[tuple[str, TrainingConfig]]) -> Iterator[Change]:
    """All batch sizes unchanged, halved, and halved again, down to one item."""
    factor = 1
    while True:
        sizes = {name: max(1, table.batch_size // factor) for name, table in tables}
        yield {key: value for name, table in tables for key, value in _batch(name, table, sizes[name]).items()}
        if all(size == 1 for size in sizes.values()):
            return
        factor *= 2


def _batch(name: str, table: TrainingConfig, size: int) -> Change:
    """A smaller batch, accumulated to as many items per step; nothing if it is already that small."""
    if size >= table.batch_size:
        return {}
    return {f"{name}.batch_size": size, f"{name}.accumulation": table.accumulation * table.batch_size // size}


def _without_needless(config: Config, change: Change, make: MakePlan, machine: Machine) -> Change:
    """Only the necessary parts of a change; the most expensive are left out first."""
    needed = dict(change)
    for group in dict.fromkeys(_group(key) for key in reversed(list(change))):
        fewer = {key: value for key, value in needed.items() if _group(key) != group}
        if _fits(config, fewer, make, machine):
            needed = fewer
    return needed


def _fits(config: Config, change: Change, make: MakePlan, machine: Machine) -> bool:
    return not list(faults(make(_changed(config, change)), machine))


def _group(key: str) -> str:
    """Batch size and accumulation of a table go together."""
    table, name = key.split(".")
    return f"{table}.batch" if name in ("batch_size", "accumulation") else key


def _changed(config: Config, change: Change) -> Config:
    values = config.model_dump(mode="json")
    for key, value in change.items():
        table, name = key.split(".")
        values[table][name] = value
    return Config.model_validate(values)


def _value(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _title(name: str) -> str:
    return name if name in ("sampling", "scoring") else f"[{name}]"


def _gib(size: int) -> str:
    return f"{size / GIB:.1f} GiB"
