"""What `run --dry-run` prints: the resolved configuration and the plan it amounts to."""

from loop.config import Config


def format_plan(config: Config) -> str:
    """The configuration as TOML-like lines, then what a run will do in figures."""
    lines: list[str] = []
    for table, values in config.model_dump(mode="json").items():
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
        f" ({sampling.style}), DPO with {' + '.join(config.update.losses)}, gate '{config.gate.rule}'",
    ]
    if config.fallback.questions:
        lines.append(f"  fallback: at most {config.fallback.questions} unsolved questions a round to the teacher")
    return "\n".join(lines)
