"""One session of a run: its lock, log, store and running parts, and how it ended."""

import importlib.util
import os
import resource
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from loop.config.schema import Config
from loop.config.teacher import TeacherConfig
from loop.context import BatchSizes, Context, Stages, StartSampler, Stopped
from loop.disk_room import FreeBytes, free_bytes
from loop.errors import InputError
from loop.judge_runs.judge_run import open_judge_run, require_same_model, with_room_for
from loop.planning.build import engines_with_room
from loop.planning.machine import Machine, this_machine
from loop.planning.peaks import process_peak
from loop.processes import learner_of, sampler_starter
from loop.questions.limits import longest_sequence
from loop.questions.registry import RATIONALES, SOURCES, ReadQuestions, WriteRationale
from loop.reporting import Observer, Reporter
from loop.run_log import run_log
from loop.swap_and_prove import first_probe_questions, probe_items
from loop.teaching.setup import open_teacher
from loop.training.stages import STAGES
from policies.encoding import Encoder
from policies.learner.learner import Learner, LocalLearner
from policies.numerics import numerics
from policies.packaged_model import model_directory
from policies.teacher.client import Teacher
from policies.vllm_engine import require_importable
from policies.weights import weights_sha256
from store import Store, open_store, run_lock
from store.completions import is_imported
from store.database import CrashPoint, Say, ignore
from store.questions import has_images, load_image
from store.rounds import Policy, add_policy, next_policy_number
from store.sessions import begin_session, end_session

OpenObserver = Callable[[Config, Store, ExitStack, Callable[[str], None]], Observer]
"""(configuration, store, stack, say) -> an observer, open until the stack is left."""


def no_observer(config: Config, store: Store, stack: ExitStack, say: Callable[[str], None]) -> Observer:
    """Observe nothing."""
    return lambda store: None


@dataclass(frozen=True)
class Parts:
    """The parts of a session. Commands and tests pass their own; parts are replaced in no other way."""

    sources: Mapping[str, ReadQuestions] = field(default_factory=lambda: SOURCES)
    rationales: Mapping[str, WriteRationale] = field(default_factory=lambda: RATIONALES)
    """The embedded teacher's rationale functions, by source."""
    make_encoder: Callable[..., Encoder] = Encoder
    make_learner: Callable[..., Learner] = LocalLearner
    start_sampler: StartSampler | None = None
    """None: the engines of the configuration."""
    open_teacher: Callable[[TeacherConfig, WriteRationale | None, ExitStack], Teacher | None] = open_teacher
    open_observer: OpenObserver = no_observer
    stages: Stages = STAGES
    batch_sizes: BatchSizes = field(default_factory=BatchSizes)
    crash_point: CrashPoint = ignore
    free_bytes: FreeBytes = free_bytes
    machine: Callable[[Path], Machine] = this_machine
    around_phase: Callable[[int, str], AbstractContextManager[object]] = lambda _, __: nullcontext()
    """(round, phase) -> what each phase is done in; `run --profile` measures here."""


@contextmanager
def work_on(
    run_dir: Path, *, create: bool = False, crash_point: CrashPoint = ignore, say: Say = ignore
) -> Iterator[Store]:
    """Lock a run for this process and open its store and log file.

    `say` receives messages while another program keeps the store locked.
    """
    with (
        run_log(run_dir),
        run_lock(run_dir),
        closing(open_store(run_dir, create=create, crash_point=crash_point, say=say)) as store,
    ):
        if is_imported(store):
            raise InputError(
                f"{run_dir} holds completions that another trainer made, to be looked at: there are no weights to work"
                " with; give another --run-dir"
            )
        yield store


@contextmanager
def open_session(
    store: Store, config: Config, run_dir: Path, reporter: Reporter, parts: Parts, command: str = "run"
) -> Iterator[tuple[Context, Observer]]:
    """Open the running parts of a session, of `run` or of another command, and handle signals that stop it.

    Its end is recorded: `finished`, `stopped`, or the name of the error.
    """
    if importlib.util.find_spec("vllm") is None:
        raise InputError("vllm is not installed; install the extra 'cpu' or 'gpu', whichever this machine is")
    encoder = open_encoder(store, config, parts)
    if encoder.is_vision and parts.start_sampler is None:
        require_importable(config.policy.model, trust_remote_code=config.policy.trust_remote_code)
    longest_sequence(config, encoder)
    if not encoder.is_vision and has_images(store):
        raise InputError(
            f"policy.model = {config.policy.model!r} reads text only, but questions have images; take a"
            " vision-language model"
        )
    if config.pairs.judge_run is not None:
        judge = open_judge_run(Path(config.pairs.judge_run))
        require_same_model(judge, config.policy)
        config = with_room_for(config, judge)
    with ExitStack() as stack:
        ctx = Context(
            run_dir=run_dir,
            config=config,
            store=store,
            encoder=encoder,
            reporter=reporter,
            learner=learner_of(config, store, encoder, parts.make_learner, reporter.say),
            start_sampler=parts.start_sampler
            or sampler_starter(
                config, store, reporter.say, partial(engines_with_room, store, config, encoder, parts.machine(run_dir))
            ),
            stages=parts.stages,
            batch_sizes=parts.batch_sizes,
            teacher=parts.open_teacher(config.teacher, parts.rationales.get(config.questions.source), stack),
            session=0,
        )
        observer = parts.open_observer(config, store, stack, reporter.say)
        ctx.session = begin_session(store, command, numerics())
        stack.callback(_close_sampler, ctx)
        reason = "finished"
        try:
            _record_base_policy(ctx)
            with _stop_on_signal(ctx):
                yield ctx, observer
        except BaseException as error:
            reason = "stopped" if isinstance(error, Stopped) else type(error).__name__
            raise
        finally:
            _end(ctx, reason)


def open_encoder(store: Store, config: Config, parts: Parts) -> Encoder:
    """The encoder of the run's model, which reads the store's images. Raises PolicyError if the model is incomplete."""
    policy = config.policy
    return parts.make_encoder(
        policy.model,
        lambda digest: load_image(store, digest),
        trust_remote_code=policy.trust_remote_code,
        chat_settings=policy.chat,
    )


def _end(ctx: Context, reason: str) -> None:
    peak = process_peak() or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    end_session(ctx.store, ctx.session, reason, peak)


def _close_sampler(ctx: Context) -> None:
    if ctx.sampler is not None:
        ctx.sampler.close()


def _record_base_policy(ctx: Context) -> None:
    """Record policy 0: the given model, with the learner's probe of it."""
    if next_policy_number(ctx.store) > 0:
        return
    path = _local_directory(ctx.config.policy.model)
    model = ctx.learner.load(path)
    questions = first_probe_questions(ctx)
    logprobs = [sum(each) for each in ctx.learner.token_logprobs(model, probe_items(ctx, questions))]
    del model
    ctx.learner.free_memory()
    probe = {"questions": questions, "logprobs": logprobs}
    with ctx.store.transaction():
        add_policy(ctx.store, Policy(0, None, "base", weights_sha256(path), str(path), probe))


def _local_directory(model: str) -> Path:
    model = model_directory(model)
    if Path(model).is_dir():
        return Path(model).resolve()
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(model))


@contextmanager
def _stop_on_signal(ctx: Context) -> Iterator[None]:
    """Stop after the batch in flight is committed at Ctrl-C, SIGTERM or SIGHUP; at once at a second Ctrl-C.

    A SIGHUP that was ignored before (under `nohup`) stays ignored.
    """
    terminals = [descriptor for descriptor in (1, 2) if os.isatty(descriptor)]

    def stop(number: int, _: Any) -> None:
        if number == signal.SIGHUP:
            _let_go_of(terminals)
        if ctx.stopping and number == signal.SIGINT:
            raise KeyboardInterrupt
        ctx.stopping = True
        ctx.reporter.say("stopping after the batch in flight (Ctrl-C again to stop at once)")

    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    before = {number: signal.signal(number, stop) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _let_go_of(terminals: Sequence[int]) -> None:
    """Redirect output to a closed terminal to the null device: writing to it would be an error."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for descriptor in terminals:
        os.dup2(nowhere, descriptor)
    os.close(nowhere)
