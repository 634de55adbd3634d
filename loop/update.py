"""Phase `update`: train a candidate from the serving policy and publish it."""

import random
import shutil
from collections.abc import Callable
from dataclasses import asdict
from itertools import islice, zip_longest
from typing import Any

from loop.config import TrainingConfig
from loop.context import Context
from loop.swap import first_probe_questions, probe_items
from policies.learner import (
    DpoSettings,
    PairItem,
    Progress,
    SftItem,
    TrainingResult,
    TrainingSettings,
    free_accelerator,
    load_model,
    train_dpo,
    train_sft,
)
from policies.probe import learner_logprobs
from policies.weights import publish
from store.database import as_json
from store.imported import adopt_imported_pairs
from store.questions import Question, find_questions
from store.rounds import Policy, Round, add_policy, get_policy, next_policy_number
from store.samples import unpack_token_ids

PAIRS = """
SELECT chosen.question AS question, chosen.style AS style, chosen.token_ids AS chosen, rejected.token_ids AS rejected
FROM pair JOIN sample AS chosen ON chosen.id = pair.chosen JOIN sample AS rejected ON rejected.id = pair.rejected
WHERE pair.round = ? ORDER BY pair.id"""

RATIONALES = """
SELECT sample.question AS question, sample.token_ids AS token_ids
FROM sample JOIN verdict ON verdict.sample = sample.id
WHERE sample.round = ? AND sample.author = 'teacher' AND verdict.outcome = 'correct' ORDER BY sample.question"""


def update(ctx: Context, state: Round) -> None:
    """DPO on the round's pairs (SFT on the distilled mixture in round 0); nothing if there are none."""
    if state.candidate is not None:
        return
    if state.number == 0:
        _train_and_publish(ctx, state, "sft", sft_items(ctx, state), ctx.config.cold_start, _cold_start)
    else:
        adopt_imported_pairs(ctx.store, state.number, ctx.encoder.completion_ids)
        _train_and_publish(ctx, state, "dpo", pair_items(ctx, state), ctx.config.update, _dpo)


def pair_items(ctx: Context, state: Round) -> list[PairItem]:
    """The round's pairs on the token ids that the sampler wrote."""
    rows = ctx.store.rows(PAIRS, state.number)
    questions = _questions(ctx, {row["question"] for row in rows})
    return [
        PairItem(
            ctx.prompt(questions[row["question"]], row["style"]),
            tuple(unpack_token_ids(row["chosen"])),
            tuple(unpack_token_ids(row["rejected"])),
        )
        for row in rows
    ]


def sft_items(ctx: Context, state: Round) -> list[SftItem]:
    """The cold start's mixture: kept rationales, direct short answers, and format items.

    Format items are direct items spread evenly over the distinct answers, so that every short form
    (each word, yes and no) is seen as often as any other.
    """
    rows = ctx.store.rows(RATIONALES, state.number)
    questions = _questions(ctx, {row["question"] for row in rows})
    items = [
        SftItem(ctx.prompt(questions[row["question"]], "cot"), tuple(unpack_token_ids(row["token_ids"])))
        for row in rows
    ]
    settings = ctx.config.cold_start
    train = find_questions(ctx.store, "split = 'train' ORDER BY hash")
    random.Random(f"{ctx.config.run.seed}:direct").shuffle(train)
    direct, rest = train[: settings.direct_items], train[settings.direct_items :]
    by_answer: dict[str, list[Question]] = {}
    for question in rest:
        by_answer.setdefault(question.answers[0].casefold(), []).append(question)
    turns = (each for turn in zip_longest(*by_answer.values()) for each in turn if each is not None)
    for question in direct + list(islice(turns, settings.format_items)):
        answer = tuple(ctx.encoder.completion_ids(question.answers[0]))
        items.append(SftItem(ctx.prompt(question, "direct"), answer))
    return items


def _questions(ctx: Context, ids: set[int]) -> dict[int, Question]:
    found = find_questions(ctx.store, f"id IN ({','.join(map(str, sorted(ids)))})") if ids else []
    return {question.id: question for question in found}


def _cold_start(ctx: Context, model: Any, items: Any, settings: TrainingSettings, progress: Progress) -> Any:
    return train_sft(model, ctx.encoder, items, settings, ctx.run_dir / "training", progress)


def _dpo(ctx: Context, model: Any, items: Any, settings: TrainingSettings, progress: Progress) -> Any:
    dpo = DpoSettings(losses=ctx.config.update.losses, beta=ctx.config.update.beta)
    return train_dpo(model, ctx.encoder, items, settings, dpo, ctx.run_dir / "training", progress)


def _train_and_publish(
    ctx: Context,
    state: Round,
    method: str,
    items: list[Any],
    recipe: TrainingConfig,
    train: Callable[..., TrainingResult],
) -> None:
    if not items:
        return
    serving = get_policy(ctx.store, state.serving)
    model = load_model(
        str(ctx.policy_directory(serving.path)),
        ctx.encoder,
        trust_remote_code=ctx.config.policy.trust_remote_code,
    )
    ctx.check_stop()
    with ctx.console.bar(f"round {state.number}: training", 0, "step") as bar:

        def progress(done: int, total: int, loss: float | None) -> None:
            bar.total = total
            bar.update(done - bar.n)
            if loss is not None:
                bar.set_postfix(loss=f"{loss:.4f}", refresh=False)
            ctx.check_stop()

        settings = training_settings(recipe, ctx.config.run.seed + state.number)
        result = train(ctx, model, items, settings, progress)
    ctx.console.say(
        f"  {method}: {len(items)} items, {result.steps} steps in {result.seconds:.1f} s"
        f" ({len(items) * recipe.epochs / result.seconds:.1f} items/s), loss {result.loss:.4f}"
    )
    _publish(ctx, state, method, len(items), recipe, result)
    del model, result
    free_accelerator()
    shutil.rmtree(ctx.run_dir / "training", ignore_errors=True)


def training_settings(recipe: TrainingConfig, seed: int) -> TrainingSettings:
    """The learner's settings of a recipe table."""
    return TrainingSettings(
        learning_rate=recipe.learning_rate,
        epochs=recipe.epochs,
        batch_size=recipe.batch_size,
        seed=seed,
        accumulation=recipe.accumulation,
        scheduler=recipe.scheduler,
        warmup_ratio=recipe.warmup_ratio,
        max_grad_norm=recipe.max_grad_norm,
        weight_decay=recipe.weight_decay,
        mixed_precision=recipe.mixed_precision,
        gradient_checkpointing=recipe.gradient_checkpointing,
        frozen=tuple(recipe.frozen),
    )


def _publish(
    ctx: Context, state: Round, method: str, items: int, recipe: TrainingConfig, result: TrainingResult
) -> None:
    """Weights first, then one transaction that says so; a crash between leaves a directory to replace."""
    number = next_policy_number(ctx.store)
    path = f"policies/{number:04d}"
    digest = publish(result.model, ctx.encoder.processor, ctx.run_dir / path)
    questions = first_probe_questions(ctx)
    logprobs = learner_logprobs(result.model, ctx.encoder, probe_items(ctx, questions))
    probe = {"questions": questions, "logprobs": logprobs}
    policy = Policy(number, state.serving, method, digest, path, probe)
    with ctx.store.transaction():
        add_policy(ctx.store, policy)
        ctx.store.db.conn.execute(
            "INSERT INTO training (round, candidate, method, recipe, items, steps, loss, seconds, metrics)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                state.number,
                number,
                method,
                recipe.model_dump_json(),
                items,
                result.steps,
                result.loss,
                result.seconds,
                as_json({**result.metrics, "settings": asdict(training_settings(recipe, 0))}),
            ),
        )
        ctx.store.db.conn.execute("UPDATE round SET candidate_policy = ? WHERE number = ?", (number, state.number))
