"""Output of `run --dry-run`: the resolved configuration and its plan."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path

from loop.commands.options import open_to_read
from loop.config.schema import Config
from loop.config.teacher import EMBEDDED
from loop.config.toml_text import key_line
from loop.errors import InputError
from loop.evaluation.comparison import gate_styles
from loop.evaluation.gate_power import gate_warning
from loop.evaluation.gate_questions import gate_questions
from loop.planning.build import plan_maker_by_model
from loop.planning.fit import cure, faults
from loop.planning.lengths import Questions
from loop.planning.machine import Machine, this_machine
from loop.planning.questions import QuestionsSeen, questions_of_store
from loop.planning.table import plan_lines
from loop.questions.registry import SOURCES
from loop.questions.scan import Scan
from loop.questions.split_table import SplitTable, require_splits
from loop.teaching.cost import estimate_from_source
from loop.terminal.console import Console
from policies import PolicyError
from policies.image_cache import CACHE_BYTES
from policies.learner.optimizer_names import missing
from store.rounds import GATE

BEFORE = "before it can run: "
"""How a line begins that names what is missing or wrong."""


def format_plan(config: Config, plan: Sequence[str]) -> str:
    """The configuration as TOML, then the lines of its plan, as comments."""
    values = config.model_dump(mode="json")
    lines = [key_line(key, value) for key, value in values.items() if not isinstance(value, dict)]
    for table in (key for key, value in values.items() if isinstance(value, dict)):
        lines += ["", f"[{table}]", *(key_line(key, value) for key, value in values[table].items())]
    return "\n".join([*lines, "", *(f"# {line}" for line in plan)])


def what_is_missing(plan: Sequence[str]) -> list[str]:
    """The faults that the lines of a plan name: each must be mended before the run can start."""
    return [line.strip().removeprefix(BEFORE) for line in plan if line.strip().startswith(BEFORE)]


def describe_plan(
    config: Config,
    run_dir: Path,
    *,
    begun: bool = False,
    seen: Scan | None = None,
    machine: Machine | None = None,
) -> list[str]:
    """Lines that say in figures what a run will do, on this machine or on the given `machine`.

    A run that has begun keeps its questions and their splits, so they are not counted anew. `seen` is the source, if it
    was read already.
    """
    sampling, rounds = config.sampling, config.run.rounds
    teacher = f"{config.cold_start.rationales} rationales from {config.teacher.model}"
    lines = [
        "plan",
        f"  cold start: {teacher if config.teacher.enabled else 'no teacher'},"
        f" {config.cold_start.direct_items} direct and {config.cold_start.format_items} format items, SFT",
        f"  then {rounds or 'endless'} rounds: {_asked(config)}"
        f" ({sampling.style}), {_training(config)}, gate '{config.gate.rule}'"
        + "".join(f", {style} answers guarded" for style in gate_styles(config)[1:]),
    ]
    if config.fallback.questions:
        lines.append(f"  fallback: at most {config.fallback.questions} unsolved questions a round to the teacher")
    lines.append(f"  memory: decoded images at hand take {CACHE_BYTES >> 20} MiB at most")
    passed, table = QuestionsSeen(), SplitTable()
    if seen is not None:
        lines += ["  questions:", *(f"    {line}" for line in seen.lines)]
    elif not begun:
        lines += _splits(config, passed, table)
    questions = passed.questions if seen is None else seen.questions
    if warning := _gate_warning(config, run_dir, table.rows if seen is None else seen.rows, begun=begun):
        lines.append(f"  {warning}")
    lines += [
        f"  {line}" for line in _memory(config, run_dir, questions, machine or this_machine(run_dir), begun=begun)
    ]
    if config.teacher.enabled:
        lines.append(f"  the cold start's cost ({config.teacher.model}): {_cold_start_cost(config)}")
    return [*lines, *(f"  {BEFORE}{what}" for what in _missing(config))]


def _memory(config: Config, run_dir: Path, questions: Questions | None, machine: Machine, *, begun: bool) -> list[str]:
    """The plan of the memory, with the run's own questions or those of the source where they were read."""
    if begun:
        with closing(open_to_read(run_dir)) as store:
            questions = questions_of_store(store)
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


def _gate_warning(config: Config, run_dir: Path, rows: Mapping[str, int], *, begun: bool) -> str | None:
    """A line if the gate has few questions; None if it has enough, or if they were not counted."""
    if begun:
        with closing(open_to_read(run_dir)) as store:
            return gate_warning(config, len(gate_questions(store, config)))
    if not rows or config.questions.on_hub:
        return None
    split = GATE if rows.get(GATE) else config.evaluation.split
    limit = config.gate.limit if split == GATE else config.evaluation.limit
    return gate_warning(config, min(rows.get(split, 0), limit or rows.get(split, 0)))


def _splits(config: Config, seen: QuestionsSeen, table: SplitTable) -> list[str]:
    """Lines with the questions of each split; none for reasoning_gym, whose questions would have to be made first."""
    path = config.questions.path
    if config.questions.on_hub:
        return [f"  questions: those of {path} on the hub, counted when the run begins"]
    if config.questions.source == "reasoning_gym" or (path is not None and not Path(path).exists()):
        return []
    console = Console()
    try:
        for _ in table.counted(seen.noted(SOURCES[config.questions.source](config.questions, console)), console):
            pass
    except InputError as error:
        return [f"  {BEFORE}{error}"]
    lines = ["  questions:", *(f"    {line}" for line in table.lines(config.questions))]
    try:
        require_splits(table.rows, config.evaluation.split)
    except InputError as error:
        lines.append(f"  {BEFORE}{error}")
    return lines


def _missing(config: Config) -> Iterator[str]:
    path, model = config.questions.path, config.policy.model
    if path is not None and not config.questions.on_hub and not Path(path).exists():
        yield f"questions.path = {path}: there is no such file"
    if fault := missing(config.learner.optimizer):
        yield fault
    if model.startswith(("/", ".", "~")) and not Path(model).is_dir():
        yield f"policy.model = {model}: there is no such directory"


def _asked(config: Config) -> str:
    """Questions and samples of a round; of each turn, where turns differ."""
    turns = [
        f"{config.questions_of(number)} questions x {config.samples_of(number)} samples"
        for number in range(1, max(1, len(config.stages.rounds)) + 1)
    ]
    if len(set(turns)) == 1:
        return turns[0]
    return ", then ".join(f"{name}: {turn}" for name, turn in zip(config.stages.rounds, turns, strict=True))


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
