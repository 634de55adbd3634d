"""Swaps the sampler's weights, and proves that it serves them. No other code changes them."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from loop.config.schema import Config
from loop.context import Context, Probed
from loop.errors import LoopError
from loop.run_log import library_noise_to
from policies import PolicyError
from policies.probe import Before, ProbeFailed, Proof, prove
from policies.sampler import Sampler, Sleeper
from policies.verifier import ScoredChain
from policies.vllm_engine import EngineSettings
from policies.weights import changed_share
from store.questions import first_question_ids, most_images, questions_by_id
from store.rounds import Policy, get_policy
from store.sessions import add_swap, count_engine_start

PROBE_QUESTIONS = 4


def serve_policy(ctx: Context, policy: int, number: int | None) -> Sampler:
    """Make the sampler serve a policy and prove it; starts the engine at the first call of a session.

    There are two proofs. The sha256 of the loaded bytes must be the recorded one. The sampler's log-probabilities of
    the probe chains must be the learner's, and not those of the policy before. Raises LoopError on a mismatch: samples
    of unknown weights would be worse than none.
    """
    sampler = ctx.sampler or _start_engine(ctx)
    if ctx.loaded_policy == policy:
        return sampler
    record = get_policy(ctx.store, policy)
    before = _before(ctx, record)
    started = time.monotonic()
    loaded = _load(ctx, sampler, ctx.policy_directory(record.path), record.sha256, f"policy {policy}")
    proof, scores = _prove(ctx, sampler, record, before)
    seconds = time.monotonic() - started
    add_swap(ctx.store, ctx.session, number, policy, loaded, proof.difference, seconds)
    ctx.loaded_policy, ctx.probed = policy, Probed(policy, record.probe["questions"], scores)
    ctx.reporter.say(
        f"  serving policy {policy}: swapped and proved in {seconds:.2f} s (sha256 {loaded[:12]}, {proof.explained()})"
    )
    return sampler


def _prove(ctx: Context, sampler: Sampler, record: Policy, before: Before | None) -> tuple[Proof, list[float]]:
    """The second proof, for every engine; returns the one with the largest difference, and the scores of one engine.

    Raises LoopError if no engine passes.
    """
    items, tolerance = probe_items(ctx, record.probe["questions"]), ctx.config.engine.probe_tolerance
    proofs = list[Proof]()

    def check(scores: Sequence[float]) -> str | None:
        try:
            proofs.append(prove(record.probe["logprobs"], scores, items, tolerance, before))
        except ProbeFailed as error:
            return (
                f"policy {record.number}: {error} (engine.probe_tolerance = {tolerance}); the sampler does not serve it"
            )
        return None

    try:
        scores = sampler.prove([item.prompt for item in items], [item.completion for item in items], check)
    except PolicyError as error:
        raise LoopError(str(error)) from error
    return max(proofs, key=lambda proof: proof.difference), scores


def _before(ctx: Context, record: Policy) -> Before | None:
    """The scores of the policy that the sampler holds, to compare a policy's probe with; on the same chains.

    None if it holds no policy, or if that has another probe or the same weights.
    """
    if ctx.probed is None:
        return None
    held = get_policy(ctx.store, ctx.probed.policy)
    same_chains = ctx.probed.questions == held.probe["questions"] == record.probe["questions"]
    if not same_chains or held.sha256 == record.sha256:
        return None

    def changed() -> float:
        return changed_share(
            ctx.policy_directory(held.path), ctx.policy_directory(record.path), ctx.config.policy.dtype
        )

    return Before(held.probe["logprobs"], ctx.probed.scores, changed)


def let_sampler_sleep(ctx: Context) -> None:
    """Free the card for the learner, if `engine.sleep` is set and the sampler can sleep; the next swap wakes it.

    Then its weights are loaded and proved again, at any level.
    """
    sampler = ctx.sampler
    if ctx.config.engine.sleep and isinstance(sampler, Sleeper) and sampler.can_sleep and not ctx.asleep:
        sampler.sleep()
        ctx.asleep, ctx.loaded_policy = True, None


def serve_weights(ctx: Context, directory: Path, sha256: str, name: str) -> Sampler:
    """Make the sampler serve weights that are not a policy of this run, proved by their sha256 only.

    The next `serve_policy` restores a policy. Raises LoopError on a mismatch.
    """
    sampler = ctx.sampler or _start_engine(ctx)
    started = time.monotonic()
    _load(ctx, sampler, directory, sha256, name)
    ctx.reporter.say(f"  serving {name}: swapped in {time.monotonic() - started:.2f} s (sha256 {sha256[:12]})")
    return sampler


def _load(ctx: Context, sampler: Sampler, directory: Path, sha256: str, name: str) -> str:
    """Load weights with the first proof; until the second one the sampler's policy counts as unknown."""
    ctx.loaded_policy = ctx.probed = None
    try:
        # The cache is allocated after the weights: while they load, both the file and they need memory.
        _wake(ctx, sampler, "weights")
        loaded = sampler.load_weights(directory)
        _wake(ctx, sampler, "kv_cache")
        ctx.asleep = False
    except OSError as error:
        raise LoopError(f"{name}: {directory} cannot be read ({error}); restore it") from error
    if loaded != sha256:
        raise LoopError(
            f"{name}: {directory} holds weights with sha256 {loaded[:12]}…, the store recorded"
            f" {sha256[:12]}…; they were altered, restore them"
        )
    return loaded


def _wake(ctx: Context, sampler: Sampler, part: Literal["weights", "kv_cache"]) -> None:
    if ctx.asleep and isinstance(sampler, Sleeper):
        sampler.wake(part)


def first_probe_questions(ctx: Context) -> list[int]:
    """The first held-out questions. They are stored with the probe, because questions may be added later."""
    return first_question_ids(ctx.store, ctx.config.evaluation.split, PROBE_QUESTIONS)


def probe_items(ctx: Context, ids: list[int]) -> list[ScoredChain]:
    """These questions in both styles, each with its accepted answer as completion."""
    questions = questions_by_id(ctx.store, ids).values()
    return [
        ScoredChain(
            ctx.prompt(question, style),
            tuple(ctx.encoder.completion_ids(f"### Answer: {question.answers[0]}")),
        )
        for question in questions
        for style in ("cot", "direct")
    ]


def _start_engine(ctx: Context) -> Sampler:
    config = ctx.config
    started = time.monotonic()
    settings = engine_settings(config, most_images(ctx.store))
    ctx.reporter.say("starting vLLM")
    with library_noise_to(ctx.run_dir):
        ctx.sampler = ctx.start_sampler(config.policy.model, ctx.encoder, settings, config.run.library_seed())
        _warm_up(ctx, ctx.sampler)
    count_engine_start(ctx.store, ctx.session)
    ctx.reporter.say(f"  vLLM started in {time.monotonic() - started:.1f} s")
    if config.engine.sleep and not (isinstance(ctx.sampler, Sleeper) and ctx.sampler.can_sleep):
        why = "engines of Ray have cards of their own" if ctx.sampler.status() else "vLLM cannot sleep on this machine"
        ctx.reporter.say(f"  engine.sleep = {config.engine.sleep} has no effect: {why}")
    return ctx.sampler


def engine_settings(config: Config, max_images: int) -> EngineSettings:
    """The engine's settings by `[engine]` and `[policy]`, for prompts with this many images."""
    return EngineSettings(
        dtype=config.policy.dtype,
        max_model_len=config.engine.max_model_len,
        max_num_seqs=config.engine.max_num_seqs,
        kv_cache_gib=config.engine.kv_cache_gib,
        gpu_memory_utilization=config.engine.gpu_memory_utilization,
        tensor_parallel_size=config.engine.tensor_parallel_size,
        enforce_eager=config.engine.enforce_eager,
        max_images=max_images,
        trust_remote_code=config.policy.trust_remote_code,
        sleep=config.engine.sleep,
    )


def _warm_up(ctx: Context, sampler: Sampler) -> None:
    """Run once, so that first-time costs (kernels, caches) count as the start and not as a swap."""
    sampler.load_weights(ctx.policy_directory(get_policy(ctx.store, 0).path))
    questions = first_probe_questions(ctx)
    items = probe_items(ctx, questions)
    scores = sampler.prove([i.prompt for i in items], [i.completion for i in items], lambda _: None)
    ctx.probed = Probed(0, questions, scores)
