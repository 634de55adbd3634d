"""Phase `update`: train a candidate and publish it.

Round 0 is SFT on the cold start's mixture. A round is up to two stages from one start: SFT on right
samples (`[rft]`, and what the teacher wrote for hard questions), then DPO on pairs (`[update]`).
"""

import math
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any, TypeVar

from loop.config.schema import TrainingConfig
from loop.context import Context
from loop.errors import LoopError
from loop.evaluation.streaks import rejections_before
from loop.serving import first_probe_questions, probe_items
from loop.training.stages import Stage, training_settings
from loop.training.training_items import cold_start_items, pair_items, rft_items, taught_items
from policies.learner import (
    DpoSettings,
    PairItem,
    Progress,
    SftItem,
    TrainingDiverged,
    free_accelerator,
    load_model,
    train_dpo,
    train_sft,
)
from policies.probe import learner_logprobs
from policies.weights import publish
from store.imported import adopt_imported_pairs
from store.rounds import Policy, Round, cold_start_policy, decide, get_policy, next_policy_number
from store.training import NewTraining, NewTrainingStep, record_candidate

Recipe = TypeVar("Recipe", bound=TrainingConfig)


def update(ctx: Context, state: Round) -> None:
    """Train and publish the round's candidate; nothing if there is nothing to train on.

    A training that diverges leaves nothing to serve: its round is rejected here, with the reason, and the next one
    learns more gently, as after any rejection. Raises LoopError where the recipe does not make it gentler, and in the
    cold start, which nothing can go on without.
    """
    if state.candidate is not None or state.decision is not None:
        return
    config, start = ctx.config, state.serving
    if state.number == 0:
        imitated, pairs = cold_start_items(ctx), list[PairItem]()
        imitation: TrainingConfig = config.cold_start
    else:
        adopt_imported_pairs(ctx.store, state.number, ctx.encoder.completion_ids)
        imitated = [*rft_items(ctx, state), *taught_items(ctx, state)]
        pairs, imitation = pair_items(ctx, state), _slower(ctx, state, config.rft)
        if config.update.start == "cold_start":
            start = cold_start_policy(ctx.store)
    if not imitated and not pairs:
        return
    try:
        stages = _train(ctx, state, start, imitated, imitation, pairs)
        _publish(ctx, state, start, stages)
        del stages
    except TrainingDiverged as error:
        if state.number == 0:
            raise LoopError(
                f"{error}; lower cold_start.learning_rate and run again: what the teacher wrote is kept"
            ) from error
        if config.gate.learning_rate_factor == 1.0:
            cure = "run again with gate.learning_rate_factor below 1, for example 0.5"
            raise LoopError(f"{error}; the next rounds would do the same: {cure}") from error
        ctx.console.say(f"  {error}: rejected")
        decide(ctx.store, state.number, "rejected", str(error))
    free_accelerator()
    shutil.rmtree(ctx.run_dir / "training", ignore_errors=True)


def _train(
    ctx: Context,
    state: Round,
    start: int,
    imitated: list[SftItem],
    imitation: TrainingConfig,
    pairs: list[PairItem],
) -> list[Stage]:
    """The stages that have items, one after the other on the same model."""
    model, stages = _load(ctx, start), list[Stage]()
    ctx.check_stop()
    if imitated:
        method = "sft" if state.number == 0 else "rft"
        stages.append(_train_sft(ctx, state, method, model, imitated, imitation))
        model = stages[-1].result.model
    if pairs:
        stages.append(_train_dpo(ctx, state, model, pairs))
    return stages


def _load(ctx: Context, policy: int) -> Any:
    directory = ctx.policy_directory(get_policy(ctx.store, policy).path)
    return load_model(str(directory), ctx.encoder, trust_remote_code=ctx.config.policy.trust_remote_code)


def _slower(ctx: Context, state: Round, recipe: Recipe) -> Recipe:
    """The recipe with its learning rate lowered for every rejection in a row just before (`gate`)."""
    factor = ctx.config.gate.learning_rate_factor ** rejections_before(ctx.store, state.number)
    return recipe.model_copy(update={"learning_rate": recipe.learning_rate * factor})


def _train_sft(
    ctx: Context, state: Round, method: str, model: Any, items: list[SftItem], recipe: TrainingConfig
) -> Stage:
    settings = training_settings(recipe, ctx.config.run.seed + state.number)
    with _progress(ctx, state, method) as progress:
        result = train_sft(model, ctx.encoder, items, settings, ctx.run_dir / "training", progress)
    return _said(ctx, Stage(method, recipe, len(items), result))


def _train_dpo(ctx: Context, state: Round, model: Any, items: list[PairItem]) -> Stage:
    recipe = _slower(ctx, state, ctx.config.update)
    settings = training_settings(recipe, ctx.config.run.seed + state.number)
    dpo = DpoSettings(
        losses=recipe.losses,
        beta=recipe.beta,
        label_smoothing=recipe.label_smoothing,
        ema_steps=recipe.ema_steps if recipe.reference == "ema" else None,
        ema_mixup=recipe.ema_mixup,
    )
    reference = _load(ctx, cold_start_policy(ctx.store)) if recipe.reference == "cold_start" else None
    with _progress(ctx, state, "dpo") as progress:
        result = train_dpo(
            model, ctx.encoder, items, settings, dpo, ctx.run_dir / "training", progress, reference=reference
        )
    if dpo.ema_steps is not None and result.steps < dpo.ema_steps:
        ctx.console.say(
            f"  update.reference = 'ema' never moved: {result.steps} steps, and update.ema_steps = {dpo.ema_steps}"
        )
    return _said(ctx, Stage("dpo", recipe, len(items), result))


@contextmanager
def _progress(ctx: Context, state: Round, method: str) -> Iterator[Progress]:
    with ctx.console.bar(f"round {state.number}: training ({method})", 0, "step") as bar:

        def progress(done: int, total: int, loss: float | None) -> None:
            bar.total = total
            bar.update(done - bar.n)
            if loss is not None:
                bar.note(loss=f"{loss:.4f}")
            ctx.check_stop()

        yield progress


def _said(ctx: Context, stage: Stage) -> Stage:
    result = stage.result
    ctx.console.say(
        f"  {stage.method}: {stage.items} items, {result.steps} steps in {result.seconds:.1f} s"
        f" ({stage.items * stage.recipe.epochs / result.seconds:.1f} items/s), loss {result.loss:.4f}"
    )
    return stage


def _publish(ctx: Context, state: Round, start: int, stages: list[Stage]) -> None:
    """Weights first, then one transaction that says so; a crash between leaves a directory to replace."""
    number, last = next_policy_number(ctx.store), stages[-1]
    path = f"policies/{number:04d}"
    model = last.result.model
    questions = first_probe_questions(ctx)
    logprobs = learner_logprobs(model, ctx.encoder, probe_items(ctx, questions))
    if not all(map(math.isfinite, logprobs)):
        raise TrainingDiverged("training diverged: what was trained gives log-probabilities that are not numbers")
    digest = publish(model, ctx.encoder.processor, ctx.run_dir / path)
    probe = {"questions": questions, "logprobs": logprobs}
    method = "+".join(stage.method for stage in stages)
    recipes = {stage.method: stage.recipe.model_dump(mode="json") for stage in stages}
    metrics = {
        stage.method: {
            **stage.result.metrics,
            "items": stage.items,
            "steps": stage.result.steps,
            "loss": stage.result.loss,
            "seconds": stage.result.seconds,
            "settings": asdict(training_settings(stage.recipe, ctx.config.run.seed + state.number)),
        }
        for stage in stages
    }
    record_candidate(
        ctx.store,
        Policy(number, start, method, digest, path, probe),
        NewTraining(
            round=state.number,
            recipe=recipes,
            items=sum(stage.items for stage in stages),
            steps=sum(stage.result.steps for stage in stages),
            loss=last.result.loss,
            seconds=sum(stage.result.seconds for stage in stages),
            metrics=metrics,
            curve=list(_curve(stages)),
        ),
    )


def _curve(stages: list[Stage]) -> Iterator[NewTrainingStep]:
    """Every step's figures; numbers count on over the stages."""
    before = 0
    for stage in stages:
        for at in stage.result.curve:
            yield NewTrainingStep(before + at.step, stage.method, at.loss, at.learning_rate, at.margin, at.accuracy)
        before += stage.result.steps
