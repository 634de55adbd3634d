"""One session of a run: its lock, log, store and running parts, and how it ended."""

import importlib.util
import resource
import signal
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

from loop.config.schema import Config
from loop.context import Context, Stopped
from loop.errors import InputError
from loop.run_log import run_log
from loop.serving import first_probe_questions, probe_items
from loop.teaching.setup import open_teacher
from loop.terminal.console import Console
from loop.trackers.feed import open_trackers
from policies.encoding import Encoder
from policies.learner import free_accelerator, load_model
from policies.packaged_model import model_directory
from policies.probe import learner_logprobs
from policies.weights import weights_sha256
from store import Store, open_store, run_lock
from store.questions import load_image
from store.rounds import Policy, add_policy
from store.sessions import begin_session, end_session


@contextmanager
def work_on(run_dir: Path, *, create: bool = False) -> Iterator[Store]:
    """The store of a run that this process alone works on; what is said goes to the run's log file."""
    with run_log(run_dir), run_lock(run_dir), closing(open_store(run_dir, create=create)) as store:
        yield store


@contextmanager
def open_session(
    store: Store, config: Config, run_dir: Path, console: Console, command: str = "run"
) -> Iterator[Context]:
    """The running parts of one session, of `run` or of another command, and the signal that ends it gently.

    How it ended is recorded: `finished`, `stopped`, or the name of the error that went through.
    """
    if importlib.util.find_spec("vllm") is None:
        raise InputError("vllm is not installed; install the extra 'cpu' or 'gpu', whichever this machine is")
    encoder = Encoder(
        config.policy.model,
        lambda digest: load_image(store, digest),
        trust_remote_code=config.policy.trust_remote_code,
    )
    if not encoder.is_vision and store.row("SELECT 1 FROM question_image LIMIT 1"):
        raise InputError(
            f"policy.model = {config.policy.model!r} reads text only, but questions have images; take a"
            " vision-language model"
        )
    with ExitStack() as stack:
        teacher = open_teacher(config.teacher, config.questions.source, stack)
        trackers = open_trackers(config, store, stack, console.say)
        ctx = Context(run_dir, config, store, encoder, console, begin_session(store, command), teacher, trackers)
        stack.callback(_close_sampler, ctx)
        reason = "finished"
        try:
            _record_base_policy(ctx)
            with _stop_on_signal(ctx):
                yield ctx
        except BaseException as error:
            reason = "stopped" if isinstance(error, Stopped) else type(error).__name__
            raise
        finally:
            _end(ctx, reason)


def _end(ctx: Context, reason: str) -> None:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    end_session(ctx.store, ctx.session, reason, peak)


def _close_sampler(ctx: Context) -> None:
    if ctx.sampler is not None:
        ctx.sampler.close()


def _record_base_policy(ctx: Context) -> None:
    """Policy 0 is the model as it was given, with the learner's own probe of it."""
    if ctx.store.row("SELECT 1 FROM policy"):
        return
    path = _local_directory(ctx.config.policy.model)
    model = load_model(str(path), ctx.encoder, trust_remote_code=ctx.config.policy.trust_remote_code)
    questions = first_probe_questions(ctx)
    logprobs = learner_logprobs(model, ctx.encoder, probe_items(ctx, questions))
    del model
    free_accelerator()
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
    """First Ctrl-C or SIGTERM: stop after the batch in flight is committed. Second Ctrl-C: at once."""

    def stop(number: int, _: Any) -> None:
        if ctx.stopping and number == signal.SIGINT:
            raise KeyboardInterrupt
        ctx.stopping = True
        ctx.console.say("stopping after the batch in flight (Ctrl-C again to stop at once)")

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
