"""Checks of the learner's settings before a run begins, without loading weights."""

from collections.abc import Callable

from loop.config.schema import Config
from loop.errors import InputError
from loop.planning.plan import trained_tables
from policies import PolicyError
from policies.learner.optimizer_names import missing

TABLES = ("cold_start", "rft", "update", "grpo")


def device_has_bfloat16() -> bool:
    """Whether the device that samples and learns computes in bfloat16; CPUs do, if slowly without AVX-512."""
    import torch  # not at the top: it takes seconds

    return not torch.cuda.is_available() or torch.cuda.get_device_capability() >= (8, 0)


def check_precision(config: Config, has_bfloat16: Callable[[], bool] = device_has_bfloat16) -> None:
    """Raise InputError, naming every key, where the configuration wants bfloat16 and the device has none."""
    keys = [
        key
        for key, wanted in (("policy.dtype", config.policy.dtype), ("learner.dtype", config.learner.dtype))
        if wanted == "bfloat16"
    ]
    cures = [f"{key}=float32" for key in keys]
    mixed = [f"{name}.mixed_precision" for name in TABLES if getattr(config, name).mixed_precision == "bf16"]
    cures += [f"{key}=no" for key in mixed]
    if cures and not has_bfloat16():
        raise InputError(
            f"{', '.join(keys + mixed)}: this machine's GPU has no bfloat16 (it needs compute capability 8.0); run with"
            f" {' '.join(f'--set {cure}' for cure in cures)}"
        )


def check_learner(config: Config) -> None:
    """Raise InputError where the machine lacks the optimizer, or an adapter cannot go where the configuration wants it.

    That is where its targets match nothing in the model, or where it goes on over rounds that other stages train in.
    """
    if fault := missing(config.learner.optimizer):
        raise InputError(fault)
    check_precision(config)
    _check_one_stage_goes_on(config)
    tables = {name: getattr(config, name) for name in TABLES}
    named = {name: table for name, table in tables.items() if table.lora_rank and table.lora_targets != "all-linear"}
    if not named and not any(table.frozen for table in tables.values()):
        return
    # Not at the top: it loads torch and peft.
    from policies.learner.lora import check_targets, without_weights
    from policies.packaged_model import model_directory

    trust = config.policy.trust_remote_code
    model = without_weights(model_directory(config.policy.model), trust_remote_code=trust)
    for name, table in tables.items():
        for pattern in table.frozen:
            if not any(pattern in parameter for parameter, _ in model.named_parameters()):
                raise InputError(f"{name}.frozen: no parameter of the model has {pattern!r} in its name")
    for name, table in named.items():
        try:
            check_targets(model, table.lora_targets, table.frozen, f"{name}.lora_targets")
        except PolicyError as error:
            raise InputError(str(error)) from error


def _check_one_stage_goes_on(config: Config) -> None:
    """An adapter that goes on is for weights that nothing else changes."""
    trained = [name for name, _ in trained_tables(config) if name != "cold_start"]
    for name in TABLES[1:]:
        others = [other for other in trained if other != name]
        if getattr(config, name).lora_continue and others:
            raise InputError(
                f"{name}.lora_continue = true needs {name} to be the only stage of a round, and [{others[0]}] trains"
                " too; leave that out (docs/recipes.md says how), or set lora_continue = false"
            )
