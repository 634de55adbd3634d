"""What `run --dry-run` prints: the resolved configuration and the plan it amounts to."""

from loop.config import Config
from loop.teacher_config import EMBEDDED
from loop.teacher_cost import estimate_from_source


def format_plan(config: Config) -> str:
    """The configuration as TOML-like lines, then what a run will do in figures."""
    lines = [f"recipe = {config.recipe!r}", ""]
    for table, values in config.model_dump(mode="json", exclude={"recipe"}).items():
        lines.append(f"[{table}]")
        lines += [f"{key} = {value!r}" for key, value in values.items()]
        lines.append("")
    sampling, rounds = config.sampling, config.run.rounds
    teacher = f"{config.cold_start.rationales} rationales from {config.teacher.model}"
    lines += [
        "plan",
        f"  cold start: {teacher if config.teacher.enabled else 'no teacher'},"
        f" {config.cold_start.direct_items} direct and {config.cold_start.format_items} format items, SFT",
        f"  then {rounds or 'endless'} rounds: {sampling.questions} questions x {sampling.samples} samples"
        f" ({sampling.style}), {_training(config)}, gate '{config.gate.rule}'",
    ]
    if config.fallback.questions:
        lines.append(f"  fallback: at most {config.fallback.questions} unsolved questions a round to the teacher")
    if config.teacher.enabled:
        lines.append(f"  the cold start's cost ({config.teacher.model}): {_cold_start_cost(config)}")
    return "\n".join(lines)


def _training(config: Config) -> str:
    stages = []
    if config.rft.per_question:
        stages.append(f"SFT on up to {config.rft.per_question} right chains a question")
    if config.pairs.per_question:
        stages.append(f"DPO on {config.pairs.rule} pairs with {' + '.join(config.update.losses)}")
    return ", ".join(stages) or "no training"


def _cold_start_cost(config: Config) -> str:
    if config.teacher.base_url == EMBEDDED:
        return "$0, it is answered on this machine"
    estimate, basis = estimate_from_source(config)
    return f"{estimate} ({basis})"
