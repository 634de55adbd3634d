"""What can be known of the learner's settings before a run begins: no weights are loaded for it."""

from loop.config.schema import Config
from loop.errors import InputError
from policies import PolicyError
from policies.learner.optimizer_names import missing

TABLES = ("cold_start", "rft", "update", "grpo")


def check_learner(config: Config) -> None:
    """Raise InputError where the machine lacks the optimizer, or an adapter's targets match nothing in the model."""
    if fault := missing(config.learner.optimizer):
        raise InputError(fault)
    tables = {name: getattr(config, name) for name in TABLES}
    named = {name: table for name, table in tables.items() if table.lora_rank and table.lora_targets != "all-linear"}
    if not named:
        return
    # Not at the top: it loads torch and peft.
    from policies.learner.lora import check_targets, without_weights
    from policies.packaged_model import model_directory

    trust = config.policy.trust_remote_code
    model = without_weights(model_directory(config.policy.model), trust_remote_code=trust)
    for name, table in named.items():
        try:
            check_targets(model, table.lora_targets, table.frozen, f"{name}.lora_targets")
        except PolicyError as error:
            raise InputError(str(error)) from error
