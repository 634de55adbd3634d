"""The controller: rounds of phases, continued from whatever the store says is missing."""

import time
from collections.abc import Callable
from pathlib import Path

from loop.config.run_identity import record_run
from loop.config.schema import Config
from loop.context import Context, Stopped
from loop.evaluation.streaks import rounds_without_gain
from loop.phases.distil import distil
from loop.phases.evaluate import evaluate
from loop.phases.fallback import fallback
from loop.phases.gate import gate
from loop.phases.judge import judge
from loop.phases.pair import pair
from loop.phases.sample import sample
from loop.phases.swap import swap
from loop.phases.update import update
from loop.questions.ingest import ingest
from loop.questions.order import choose_questions
from loop.reading.accuracy_log import append_finished_rounds
from loop.reading.model_card import write_cards
from loop.reporting import Observer, RunReporter
from loop.retention import delete_old_weights
from loop.session import Parts, open_session, work_on
from loop.teaching.cost import confirm_cold_start
from store.rounds import (
    Round,
    add_phase_time,
    end_phase,
    get_policy,
    get_round,
    latest_round,
    served_policy,
    start_round,
)

Phase = Callable[[Context, Round], None]

COLD_START_PHASES: dict[str, Phase] = {
    "distil": distil,
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


def run(
    config: Config, run_dir: Path, reporter: RunReporter, *, agreed: bool = False, parts: Parts | None = None
) -> bool:
    """Start or continue a run until its rounds are done; True if finished, False if stopped.

    One round after the other, one phase after the other: the phase is read from the store, does
    what is missing, and the next one is recorded. There is no other progress anywhere. `agreed`:
    the user agrees to a cold start that is estimated to cost more than `teacher.confirm_usd`.
    """
    parts = parts or Parts()
    with work_on(run_dir, create=True, crash_point=parts.crash_point) as store:
        record_run(store, config)
        ingest(store, config, parts.sources[config.questions.source], reporter)
        confirm_cold_start(config, store, agreed=agreed)
        try:
            with open_session(store, config, run_dir, reporter, parts) as (ctx, observe):
                _rounds(ctx, reporter, observe)
        except Stopped:
            reporter.say(f"stopped; everything done so far is kept in {run_dir}, run again to go on")
            return False
        reporter.show_log(store)
        return True


def _rounds(ctx: Context, reporter: RunReporter, observe: Observer) -> None:
    state = latest_round(ctx.store) or _start_round(ctx, 0, 0)
    _point_to_current(ctx)
    observe(ctx.store)
    while True:
        _finish_round(ctx, state, reporter, observe)
        append_finished_rounds(ctx.store, ctx.run_dir / "rounds.jsonl")
        delete_old_weights(ctx)
        write_cards(ctx)
        ctx.check_stop()
        state = get_round(ctx.store, state.number)
        if ctx.config.run.rounds and state.number >= ctx.config.run.rounds:
            return
        if _levelled_off(ctx, state):
            patience = ctx.config.gate.patience
            ctx.reporter.say(f"none of the last {patience} rounds was accepted (gate.patience): levelled off")
            return
        following = state.candidate if state.decision == "accepted" else state.serving
        assert following is not None
        state = _start_round(ctx, state.number + 1, following)


def _levelled_off(ctx: Context, state: Round) -> bool:
    patience = ctx.config.gate.patience
    return patience > 0 and rounds_without_gain(ctx.store, state.number + 1) >= patience


def _finish_round(ctx: Context, state: Round, reporter: RunReporter, observe: Observer) -> None:
    phases = COLD_START_PHASES if state.number == 0 else ROUND_PHASES
    names = [*phases, "done"]
    while state.phase != "done":
        reporter.phase_begins(ctx.store, state.number, state.phase)
        started = time.monotonic()
        ctx.store.crash_point(f"round {state.number}: {state.phase} begins")
        try:
            phases[state.phase](ctx, state)
        except BaseException:
            with ctx.store.transaction():
                add_phase_time(ctx.store, state.number, state.phase, time.monotonic() - started)
            raise
        following = names[names.index(state.phase) + 1]
        seconds = time.monotonic() - started
        end_phase(ctx.store, state.number, state.phase, following, seconds)
        observe(ctx.store)
        reporter.phase_ends(state.number, state.phase, seconds)
        if following == "done":
            reporter.round_ends(ctx.store, state.number)
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
    """`DIR/policies/current` is a link to the accepted policy's directory; `DIR/policy` is `DIR/policies`."""
    served = served_policy(ctx.store)
    if served == 0:
        return
    temporary, link = ctx.run_dir / "policies" / "current.tmp", ctx.run_dir / "policies" / "current"
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(Path(get_policy(ctx.store, served).path).name)
    temporary.replace(link)
    if not (ctx.run_dir / "policy").is_symlink():
        (ctx.run_dir / "policy").symlink_to("policies")
