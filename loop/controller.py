"""The controller: runs rounds of phases, and continues from what is missing in the store."""

import time
from collections.abc import Callable, Collection
from functools import cache, partial
from itertools import takewhile
from pathlib import Path

from loop.config.run_identity import as_begun, record_run
from loop.config.schema import Config
from loop.context import Context, Stopped
from loop.current_policy import point_to_current
from loop.disk_room import require_room
from loop.phases.distil import distil
from loop.phases.evaluate import evaluate
from loop.phases.gate_and_rollback import gate
from loop.phases.judge import judge
from loop.phases.pair import pair
from loop.phases.sample import sample
from loop.phases.swap import swap
from loop.phases.teacher_fallback import fallback
from loop.phases.update import update
from loop.planning.build import plan_run
from loop.planning.record import MemoryRecord
from loop.questions.ingest import ingest
from loop.questions.order import choose_questions
from loop.reading.accuracy_log import append_finished_rounds
from loop.reading.model_card import write_cards
from loop.reporting import Observer, RunReporter
from loop.retention import delete_old_weights
from loop.session import Parts, open_encoder, open_session, work_on
from loop.teaching.cost import confirm_cold_start
from loop.training.check_learner import check_learner
from store.rounds import (
    Round,
    add_phase_time,
    end_phase,
    get_round,
    latest_round,
    recent_decisions,
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
    config: Config,
    run_dir: Path,
    reporter: RunReporter,
    *,
    set_by_user: Collection[str] | None = None,
    agreed: bool = False,
    parts: Parts | None = None,
) -> bool:
    """Start or continue a run until its rounds are done; True if finished, False if stopped.

    The current phase is read from the store, does what is missing, and the next phase is recorded; no other progress
    is kept anywhere. `set_by_user` has the keys that the user set (None: every key); a continued run keeps its values
    for the others. `agreed`: the user accepts a cold start that is estimated to cost more than `teacher.confirm_usd`,
    and a run whose plan needs more memory than the machine has.
    """
    parts = parts or Parts()
    with work_on(run_dir, create=True, crash_point=parts.crash_point, say=reporter.say) as store:
        if set_by_user is not None:
            config, kept = as_begun(store, config, set_by_user)
            if kept:
                reporter.say(f"the run keeps the values that it began with: {', '.join(kept)}")
        check_learner(config)
        record_run(store, config)
        make_encoder = cache(partial(open_encoder, store, config, parts))
        ingest(store, config, parts.sources[config.questions.source], reporter, make_encoder)
        confirm_cold_start(config, store, agreed=agreed)
        memory = MemoryRecord(
            plan_run(store, config, make_encoder, parts.machine(run_dir), agreed=agreed),
            samples=config.engine.replicas == 1 and config.cluster.address is None,
            trains=config.learner.workers == 1,
        )
        try:
            with open_session(store, config, run_dir, reporter, parts) as (ctx, observe):
                _rounds(ctx, memory, reporter, observe, parts)
        except Stopped:
            reporter.say(f"stopped; everything done so far is kept in {run_dir}, run again to continue")
            return False
        reporter.show_log(store)
        return True


def _rounds(ctx: Context, memory: MemoryRecord, reporter: RunReporter, observe: Observer, parts: Parts) -> None:
    round_ = latest_round(ctx.store) or _start_round(ctx, 0, 0)
    point_to_current(ctx.store, ctx.run_dir)
    observe(ctx.store)
    while True:
        _finish_round(ctx, round_, memory, reporter, observe, parts)
        append_finished_rounds(ctx.store, ctx.run_dir / "rounds.jsonl")
        delete_old_weights(ctx)
        write_cards(ctx)
        ctx.check_stop()
        round_ = get_round(ctx.store, round_.number)
        if ctx.config.run.rounds and round_.number >= ctx.config.run.rounds:
            return
        if _levelled_off(ctx, round_):
            patience = ctx.config.gate.patience
            ctx.reporter.say(f"none of the last {patience} rounds was accepted (gate.patience): levelled off")
            return
        following = round_.candidate_policy if round_.decision == "accepted" else round_.serving_policy
        assert following is not None
        round_ = _start_round(ctx, round_.number + 1, following)


def _levelled_off(ctx: Context, round_: Round) -> bool:
    """Whether `gate.patience` rounds in a row ended without an accepted candidate."""
    patience = ctx.config.gate.patience
    without = takewhile(lambda decision: decision != "accepted", recent_decisions(ctx.store, round_.number + 1))
    return patience > 0 and len(list(without)) >= patience


def _finish_round(
    ctx: Context, round_: Round, memory: MemoryRecord, reporter: RunReporter, observe: Observer, parts: Parts
) -> None:
    phases = COLD_START_PHASES if round_.number == 0 else ROUND_PHASES
    names = [*phases, "done"]
    while round_.phase != "done":
        require_room(ctx, round_, parts.free_bytes)
        reporter.phase_begins(ctx.store, round_.number, round_.phase)
        started = time.monotonic()
        ctx.store.crash_point(f"round {round_.number}: {round_.phase} begins")
        try:
            with (
                parts.around_phase(round_.number, round_.phase),
                memory.of_phase(ctx.store, round_.number, round_.phase, ctx.sampler is not None),
            ):
                phases[round_.phase](ctx, round_)
        except BaseException:
            with ctx.store.transaction():
                add_phase_time(ctx.store, round_.number, round_.phase, time.monotonic() - started)
            raise
        following = names[names.index(round_.phase) + 1]
        seconds = time.monotonic() - started
        end_phase(ctx.store, round_.number, round_.phase, following, seconds)
        observe(ctx.store)
        reporter.phase_ends(round_.number, round_.phase, seconds)
        if following == "done":
            reporter.round_ends(ctx.store, round_.number)
        point_to_current(ctx.store, ctx.run_dir)
        ctx.check_stop()
        round_ = get_round(ctx.store, round_.number)


def _start_round(ctx: Context, number: int, serving: int) -> Round:
    """Start a round and fix its questions, so that every session works on the same ones."""
    wanted = ctx.config.questions_of(number) if number else ctx.config.cold_start.rationales
    if number == 0 and ctx.teacher is None:
        wanted = 0
    questions = choose_questions(ctx, number, wanted)
    first = next(iter(ROUND_PHASES if number else COLD_START_PHASES))
    start_round(ctx.store, number, first, serving, questions)
    return get_round(ctx.store, number)
