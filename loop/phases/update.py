"""Phase `update`: trains a candidate and publishes it."""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from loop.config.learner import TrainingConfig
from loop.context import Context, Stage
from loop.errors import LoopError
from loop.swap_and_prove import let_sampler_sleep
from loop.training.adapters import ADAPTER, adapter_base, first_model, note_base
from loop.training.learning_rate import lower_after_rejections
from loop.training.publish import discard, publish_policy
from loop.training.stage_directories import (
    RESULT,
    TRAINED,
    delete_others,
    keep_trained,
    stage_directory,
    trained_before,
)
from loop.training.stages import training_settings
from policies.learner.base import SCORES, TrainingResult, TrainingSettings
from policies.learner.callbacks import Progress, TrainingDiverged
from policies.learner.checkpoints import latest_checkpoint, step_of
from store.gate import best_policy
from store.pairs import adopt_imported_pairs
from store.rounds import Round, cold_start_policy, get_policy, record_decision
from store.training import NewTraining, NewTrainingStep, record_candidate


@dataclass(frozen=True)
class Training:
    """One trained stage: its settings, number of items, and result."""

    stage: Stage
    table: TrainingConfig
    settings: TrainingSettings
    items: int
    result: TrainingResult


@dataclass(frozen=True)
class Planned:
    """One stage to be trained, and its directory."""

    stage: Stage
    table: TrainingConfig
    settings: TrainingSettings
    items: Sequence[Any]
    directory: Path

    def trained(self, result: TrainingResult) -> Training:
        """The stage with its result."""
        return Training(self.stage, self.table, self.settings, len(self.items), result)


def update(ctx: Context, round_: Round) -> None:
    """Train and publish the round's candidate; nothing if there is nothing to train on.

    The stages are those of `loop/training/stages.py` that `stages.rounds` gives the round, in order on the same model.
    If a training diverges there is nothing to serve: the round is rejected here, with the reason.
    """
    if round_.candidate_policy is not None or round_.decision is not None:
        return
    if round_.number > 0:
        adopt_imported_pairs(ctx.store, round_.number, ctx.encoder.completion_ids)
    with_items = [(stage, items) for stage in _stages(ctx, round_) if (items := stage.items(ctx, round_))]
    if not with_items:
        return
    start = cold_start_policy(ctx.store) if _from_cold_start(ctx, round_) else round_.serving_policy
    let_sampler_sleep(ctx)
    try:
        trainings = _train(ctx, round_, start, with_items)
        _publish(ctx, round_, start, trainings)
        del trainings
    except TrainingDiverged as error:
        _reject(ctx, round_, error)
    ctx.learner.free_memory()
    shutil.rmtree(ctx.run_dir / "training", ignore_errors=True)


def _stages(ctx: Context, round_: Round) -> list[Stage]:
    if round_.number == 0:
        return list(ctx.stages.cold_start)
    named = ctx.config.stages.of_round(round_.number)
    return [stage for stage in ctx.stages.rounds if named is None or stage.name in named]


def _from_cold_start(ctx: Context, round_: Round) -> bool:
    return round_.number > 0 and ctx.config.update.start == "cold_start"


def _train(
    ctx: Context, round_: Round, start: int, with_items: Sequence[tuple[Stage, Sequence[Any]]]
) -> list[Training]:
    """Train every stage that has items, in order, each from the result of the one before.

    Stages that an earlier session finished are not repeated: see `loop/training/stage_directories.py`.
    """
    planned, directories = list[Planned](), list[Path]()
    for stage, items in with_items:
        table = lower_after_rejections(ctx, round_, stage.settings(ctx.config))
        settings = training_settings(table, ctx.config.learner, ctx.config.run.library_seed(round_.number))
        directories.append(stage_directory(ctx, start, directories, stage, settings, items))
        planned.append(Planned(stage, table, settings, items, directories[-1]))
    kept = directories if ctx.config.learner.checkpoint_minutes else []
    delete_others(ctx.run_dir / "training", kept, ctx.reporter.say)
    trainings = list[Training]()
    for plan in planned[:-1]:
        if (known := trained_before(plan.directory)) is None:
            break
        ctx.reporter.say(f"  {plan.stage.name}: trained before, in {known.seconds:.1f} s")
        trainings.append(plan.trained(known))
    done = len(trainings)
    planned = [_with_references(ctx, plan, start if n == 0 else None) for n, plan in enumerate(planned)][done:]
    first = planned[0]
    model = (
        ctx.learner.load(directories[done - 1] / TRAINED) if done else first_model(ctx, first.stage, first.table, start)
    )
    ctx.check_stop()
    for plan in planned:
        if (checkpoint := latest_checkpoint(plan.directory)) is not None:
            ctx.reporter.say(f"  {plan.stage.name}: goes on after step {step_of(checkpoint)}")
        with _progress(ctx, round_, plan.stage) as progress:
            algorithm = plan.stage.algorithm(ctx)
            result = ctx.learner.train(algorithm, model, plan.items, plan.settings, plan.directory, progress)
        trainings.append(plan.trained(result))
        _report(ctx, trainings[-1])
        if plan is planned[-1]:
            break
        model = result.model
        if plan.settings.checkpoint_minutes:
            keep_trained(ctx, plan.directory, result)
            del model, result
            trainings[-1] = replace(trainings[-1], result=replace(trainings[-1].result, model=None))
            ctx.learner.free_memory()
            model = ctx.learner.load(plan.directory / TRAINED)  # as a later session would load it
    return trainings


def _with_references(ctx: Context, plan: Planned, start: int | None) -> Planned:
    """The stage with the reference's log-probabilities, unless an earlier session kept them or finished the stage."""
    if any((plan.directory / name).exists() for name in (SCORES, RESULT)):
        return plan
    return replace(plan, items=plan.stage.references(ctx, plan.items, start))


@contextmanager
def _progress(ctx: Context, round_: Round, stage: Stage) -> Iterator[Progress]:
    with ctx.reporter.bar(f"round {round_.number}: training ({stage.name})", 0, "step") as bar:

        def progress(done: int, total: int, loss: float | None) -> None:
            bar.total = total
            bar.update(done - bar.n)
            if loss is not None:
                bar.note(loss=f"{loss:.4f}")
            ctx.check_stop()

        yield progress


def _report(ctx: Context, training: Training) -> None:
    result = training.result
    for remark in result.remarks:
        ctx.reporter.say(f"  {remark}")
    ctx.reporter.say(
        f"  {training.stage.name}: {training.items} items, {result.steps} steps in {result.seconds:.1f} s"
        f" ({training.items * training.table.epochs / result.seconds:.1f} items/s), loss {result.loss:.4f}"
    )


def _reject(ctx: Context, round_: Round, error: TrainingDiverged) -> None:
    """Reject the round; the next one has lower learning rates, as after any rejection.

    Raises LoopError if the recipe does not lower them, and in the cold start, which every round needs.
    """
    if round_.number == 0:
        raise LoopError(
            f"{error}; lower cold_start.learning_rate and run again: what the teacher wrote is kept"
        ) from error
    if ctx.config.gate.learning_rate_factor == 1.0:
        cure = "run again with gate.learning_rate_factor below 1, for example 0.5"
        raise LoopError(f"{error}; the next rounds would do the same: {cure}") from error
    ctx.reporter.say(f"  {error}: rejected")
    record_decision(ctx.store, round_.number, "rejected", str(error), best=best_policy(ctx.store))


def _publish(ctx: Context, round_: Round, start: int, trainings: list[Training]) -> None:
    """Weights first, then one transaction that says so; a crash between leaves a directory to replace."""
    first = trainings[0]
    if first.result.adapter is not None and (base := adapter_base(ctx, first.stage, first.table, start)) is not None:
        note_base(ctx, first.result.adapter, base, first.stage.name)
    last, method = trainings[-1], "+".join(training.stage.name for training in trainings)
    policy = publish_policy(ctx, last.result.model, start, method, _adapters(trainings))
    if policy.sha256 == get_policy(ctx.store, round_.serving_policy).sha256:
        discard(ctx, policy)
        ctx.reporter.say("  the update left the weights as they were: no update")
        reason = "the update left the weights as they were"
        record_decision(ctx.store, round_.number, "no_update", reason, best=best_policy(ctx.store))
        return
    recipes = {training.stage.name: training.table.model_dump(mode="json") for training in trainings}
    metrics = {
        training.stage.name: {
            **training.result.metrics,
            "items": training.items,
            "steps": training.result.steps,
            "loss": training.result.loss,
            "seconds": training.result.seconds,
            "settings": asdict(training.settings),
            "dtype": ctx.config.learner.dtype,
        }
        for training in trainings
    }
    record_candidate(
        ctx.store,
        policy,
        NewTraining(
            round=round_.number,
            recipe=recipes,
            items=sum(training.items for training in trainings),
            steps=sum(training.result.steps for training in trainings),
            loss=last.result.loss,
            seconds=sum(training.result.seconds for training in trainings),
            metrics=metrics,
            curve=list(_curve(trainings)),
        ),
    )


def _adapters(trainings: list[Training]) -> dict[str, Path]:
    """Adapters by their path in the policy's directory: `adapter/`, or `adapter/STAGE/` with several stages."""
    made = {training.stage.name: training.result.adapter for training in trainings}
    several = sum(adapter is not None for adapter in made.values()) > 1
    return {f"{ADAPTER}/{name}" if several else ADAPTER: path for name, path in made.items() if path is not None}


def _curve(trainings: list[Training]) -> Iterator[NewTrainingStep]:
    """The figures of every step; steps count on over the stages."""
    before = 0
    for training in trainings:
        name = training.stage.name
        for at in training.result.curve:
            yield NewTrainingStep(before + at.step, name, at.loss, at.learning_rate, at.margin, at.accuracy)
        before += training.result.steps
