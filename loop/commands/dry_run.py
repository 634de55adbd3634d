"""What `run --dry-run` prints: the resolved configuration and the plan it amounts to."""

import json
import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from loop.commands.options import open_to_read
from loop.config.schema import Config
from loop.config.teacher import EMBEDDED
from loop.errors import InputError
from loop.evaluation.comparison import gate_styles
from loop.planning.build import plan_maker_by_model
from loop.planning.fit import cure, faults
from loop.planning.machine import this_machine
from loop.planning.questions import QuestionsSeen, questions_of_store
from loop.planning.table import plan_lines
from loop.questions.registry import SOURCES
from loop.questions.split_table import SplitTable, require_splits
from loop.teaching.cost import estimate_from_source
from loop.terminal.console import Console
from policies import PolicyError
from policies.image_cache import CACHE_BYTES
from policies.learner.optimizer_names import missing


def format_plan(config: Config, run_dir: Path = Path("runs"), *, begun: bool = False) -> str:
    """The configuration as TOML, then what a run will do in figures, as comments.

    A run that has begun keeps its questions and their splits, so they are not counted anew.
    """
    values = config.model_dump(mode="json")
    lines = [_line(key, value) for key, value in values.items() if not isinstance(value, dict)]
    for table in (key for key, value in values.items() if isinstance(value, dict)):
        lines += ["", f"[{table}]", *(_line(key, value) for key, value in values[table].items())]
    return "\n".join([*lines, "", *(f"# {line}" for line in _plan(config, run_dir, begun=begun))])


def _line(key: str, value: Any) -> str:
    return f"# {key} is not set" if value is None else f"{_key(key)} = {_toml(value)}"


def _key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else json.dumps(key)


def _toml(value: Any) -> str:
    """A value as TOML writes it; its strings, numbers and lists are those of JSON."""
    if isinstance(value, dict):
        inside = ", ".join(f"{_key(key)} = {_toml(each)}" for key, each in value.items() if each is not None)
        return f"{{ {inside} }}" if inside else "{}"
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    return json.dumps(value, ensure_ascii=False)


def _plan(config: Config, run_dir: Path, *, begun: bool) -> list[str]:
    sampling, rounds = config.sampling, config.run.rounds
    teacher = f"{config.cold_start.rationales} rationales from {config.teacher.model}"
    lines = [
        "plan",
        f"  cold start: {teacher if config.teacher.enabled else 'no teacher'},"
        f" {config.cold_start.direct_items} direct and {config.cold_start.format_items} format items, SFT",
        f"  then {rounds or 'endless'} rounds: {sampling.questions} questions x {sampling.samples} samples"
        f" ({sampling.style}), {_training(config)}, gate '{config.gate.rule}'"
        + "".join(f", {style} answers guarded" for style in gate_styles(config)[1:]),
    ]
    if config.fallback.questions:
        lines.append(f"  fallback: at most {config.fallback.questions} unsolved questions a round to the teacher")
    lines.append(f"  memory: decoded images at hand take {CACHE_BYTES >> 20} MiB at most")
    seen = QuestionsSeen()
    lines += [] if begun else _splits(config, seen)
    lines += [f"  {line}" for line in _memory(config, run_dir, seen, begun=begun)]
    if config.teacher.enabled:
        lines.append(f"  the cold start's cost ({config.teacher.model}): {_cold_start_cost(config)}")
    return [*lines, *(f"  before it can run: {what}" for what in _missing(config))]


def _memory(config: Config, run_dir: Path, seen: QuestionsSeen, *, begun: bool) -> list[str]:
    """The plan of the memory, with the run's own questions or those of the source where they were read."""
    questions = seen.questions
    if begun:
        with closing(open_to_read(run_dir)) as store:
            questions = questions_of_store(store)
    machine = this_machine(run_dir)
    try:
        make = plan_maker_by_model(config, questions, machine)
    except PolicyError as error:
        return [f"memory is not planned: {error}"]
    if make is None:
        return ["memory is not planned: set engine.max_model_len, or begin the run, which looks at its questions"]
    plan = make(config)
    lines = list(plan_lines(plan, machine))
    if list(faults(plan, machine)):
        lines.append(f"  {cure(config, make, machine)}")
    return lines


def _splits(config: Config, seen: QuestionsSeen) -> list[str]:
    """How many questions each split gets, where they are at hand: those of reasoning_gym would have to be made."""
    path, table = config.questions.path, SplitTable()
    if config.questions.source == "reasoning_gym" or (path is not None and not Path(path).exists()):
        return []
    console = Console()
    try:
        for _ in table.counted(seen.noted(SOURCES[config.questions.source](config.questions, console)), console):
            pass
    except InputError as error:
        return [f"  before it can run: {error}"]
    lines = ["  questions:", *(f"    {line}" for line in table.lines(config.questions))]
    try:
        require_splits(table.rows, config.evaluation.split)
    except InputError as error:
        lines.append(f"  before it can run: {error}")
    return lines


def _missing(config: Config) -> Iterator[str]:
    path, model = config.questions.path, config.policy.model
    if path is not None and not Path(path).exists():
        yield f"questions.path = {path}: there is no such file"
    if fault := missing(config.learner.optimizer):
        yield fault
    if model.startswith(("/", ".", "~")) and not Path(model).is_dir():
        yield f"policy.model = {model}: there is no such directory"


def _training(config: Config) -> str:
    stages = []
    if config.rft.per_question:
        stages.append(f"SFT on up to {config.rft.per_question} right chains a question")
    if config.pairs.per_question:
        stages.append(f"DPO on {config.pairs.rule} pairs with {' + '.join(config.update.losses)}")
    if config.grpo.groups != "none":
        stages.append(f"GRPO ({config.grpo.loss}) on questions that are {config.grpo.groups.replace('_', ' ')}")
    return ", ".join(stages) or "no training"


def _cold_start_cost(config: Config) -> str:
    if config.teacher.base_url == EMBEDDED:
        return "$0, it is answered on this machine"
    estimate, basis = estimate_from_source(config)
    return f"{estimate} ({basis})"
