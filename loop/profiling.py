"""`run --profile`: the time of each part, as a table per phase and as a trace for Perfetto.

The measured functions are wrapped only while a run is profiled; their own code has no part in it.
"""

import functools
import importlib.util
import json
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

TRACE, TABLE = "profile.json", "profile.md"
REST = "the rest: Python"


class Part(NamedTuple):
    """A function whose time is measured, as `module:Class.function`, and the name of its time in the table."""

    name: str
    function: str


PARTS = (
    Part("prompts: template and token ids", "policies.vllm_engine:VllmEngine._input"),
    Part("prompts: images for the engine", "vllm.multimodal.processing.processor:BaseMultiModalProcessor.apply"),
    Part("prompts: rendering and queueing", "policies.vllm_engine:VllmEngine._submit"),
    Part("engine: starting", "policies.vllm_engine:VllmEngine.__init__"),
    Part("engine: step", "vllm.v1.engine.llm_engine:LLMEngine.step"),
    Part("engine: scheduler", "vllm.v1.core.sched.scheduler:Scheduler.schedule"),
    Part("engine: scheduler", "vllm.v1.core.sched.scheduler:Scheduler.update_from_output"),
    Part("engine: model", "vllm.v1.worker.gpu_model_runner:GPUModelRunner.execute_model"),
    Part("engine: drawing tokens", "vllm.v1.worker.gpu_model_runner:GPUModelRunner.sample_tokens"),
    Part("engine: outputs", "vllm.v1.engine.output_processor:OutputProcessor.process_outputs"),
    Part("chains: text of token ids", "policies.vllm_engine:VllmEngine._chain"),
    Part("waiting for other processes", "ray:wait"),
    Part("waiting for other processes", "ray:get"),
    Part("training: batches", "policies.encoding:Encoder.batch"),
    Part("training: forward", "trl:SFTTrainer.compute_loss"),
    Part("training: forward", "trl:DPOTrainer.compute_loss"),
    Part("training: backward", "accelerate:Accelerator.backward"),
    Part("training: optimizer", "accelerate.optimizer:AcceleratedOptimizer.step"),
    Part("training: setting up", "transformers.trainer:Trainer._inner_training_loop"),
    Part("scoring: forward", "policies.verifier:_own_logprobs"),
    Part("weights: loading", "policies.learner.learner:LocalLearner.load"),
    Part("weights: publishing", "policies.learner.learner:LocalLearner.publish"),
    Part("weights: freeing memory", "policies.learner.learner:LocalLearner.free_memory"),
    Part("weights: swap", "policies.vllm_engine:VllmEngine.load_weights"),
    Part("judging", "loop.evaluation.judge_chains:give_verdicts"),
    Part("store: queries", "store.database:Store.rows"),
    Part("store: queries", "store.database:Store.value"),
    Part("store: transactions", "store.database:Store.transaction"),
)


@dataclass
class _Open:
    """A span that has begun: its start, and the time of the spans that it called."""

    started: float
    inside: float = 0.0


@dataclass
class Spent:
    """Calls of a part, and its own seconds without those of the parts that it called."""

    calls: int = 0
    seconds: float = 0.0


@dataclass
class Profile:
    """Measures this thread's spans and writes them into a folder as they end."""

    folder: Path
    phases: dict[str, dict[str, Spent]] = field(default_factory=dict)
    """Phase -> part -> what it took, over all rounds."""
    _open: list[_Open] = field(default_factory=list)
    _parts: dict[str, Spent] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._thread, self._zero = threading.get_ident(), time.perf_counter()

    def __enter__(self) -> Self:
        self._trace = (self.folder / TRACE).open("w")
        self._trace.write("[")
        self._comma = ""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._trace.write("]\n")
        self._trace.close()
        (self.folder / TABLE).write_text(self.table())

    @contextmanager
    def phase(self, number: int, phase: str) -> Iterator[None]:
        """A phase of a round; the parts inside are counted for it."""
        self._parts = self.phases.setdefault(phase, defaultdict(Spent))
        with self.span(REST, shown=f"round {number}: {phase}"):
            yield
        self._trace.flush()

    @contextmanager
    def span(self, name: str, shown: str | None = None) -> Iterator[None]:
        """Measure the work inside. Spans in other threads are not measured, because threads wait for each other."""
        if threading.get_ident() != self._thread:
            yield
            return
        own = _Open(time.perf_counter())
        self._open.append(own)
        try:
            yield
        finally:
            self._open.pop()
            seconds = time.perf_counter() - own.started
            if self._open:
                self._open[-1].inside += seconds
            spent = self._parts.setdefault(name, Spent())
            spent.calls += 1
            spent.seconds += seconds - own.inside
            event = {"name": shown or name, "ph": "X", "pid": 1, "tid": 1}
            times = {"ts": round((own.started - self._zero) * 1e6), "dur": round(seconds * 1e6)}
            self._trace.write(f"{self._comma}\n{json.dumps(event | times)}")
            self._comma = ","

    def table(self) -> str:
        """Markdown: each phase with its parts, the longest first."""
        lines = ["| phase | part | calls | seconds | % of the phase |", "| --- | --- | --- | --- | --- |"]
        for phase, parts in self.phases.items():
            total = sum(spent.seconds for spent in parts.values())
            rounds = parts[REST].calls
            lines.append(f"| **{phase}** | {rounds} {'round' if rounds == 1 else 'rounds'} | | **{total:.1f}** | |")
            for name, spent in sorted(parts.items(), key=lambda item: -item[1].seconds):
                share = 100 * spent.seconds / total if total else 0
                calls = "" if name == REST else f"{spent.calls:,}"
                lines.append(f"| | {name} | {calls} | {spent.seconds:.2f} | {share:.0f} |")
        return "\n".join(lines) + "\n"


@contextmanager
def profiled(folder: Path) -> Iterator[Profile]:
    """Measure `PARTS` until the end; the folder gets `profile.json` and `profile.md`."""
    folder.mkdir(parents=True, exist_ok=True)
    with Profile(folder) as profile, ExitStack() as restored:
        for part in PARTS:
            if found := _find(part.function):
                _wrap(profile, part.name, *found, restored)
        yield profile


def _find(function: str) -> tuple[Any, str] | None:
    """The object that holds the function, and the function's name in it; None where its package is not installed."""
    module, _, path = function.partition(":")
    if importlib.util.find_spec(module.partition(".")[0]) is None:
        return None
    holder: Any = importlib.import_module(module)
    *classes, name = path.split(".")
    for each in classes:
        holder = getattr(holder, each)
    return holder, name


def _wrap(profile: Profile, part: str, holder: Any, name: str, restored: ExitStack) -> None:
    own: Callable[..., Any] = getattr(holder, name)
    inherited = isinstance(holder, type) and name not in vars(holder)

    @functools.wraps(own)
    def measured(*arguments: Any, **options: Any) -> Any:
        with profile.span(part):
            result = own(*arguments, **options)
        return _measured_context(profile, part, result) if hasattr(result, "__enter__") else result

    setattr(holder, name, measured)
    restored.callback(delattr, holder, name) if inherited else restored.callback(setattr, holder, name, own)


@contextmanager
def _measured_context(profile: Profile, part: str, context: Any) -> Iterator[Any]:
    with profile.span(part), context as value:
        yield value
