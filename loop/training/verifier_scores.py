"""Verifier scores of a round's samples, for the pair rule `margin`."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from loop.context import Context
from loop.training.pair_candidates import Own
from policies.learner import free_accelerator, load_model
from policies.verifier import ScoredChain, token_logprobs
from store.questions import find_questions
from store.rounds import cold_start_policy, get_policy


def with_verifier_scores(ctx: Context, judged: Sequence[Own]) -> Iterator[Own]:
    """The same with log pi_serving - log pi_cold_start of every sample; the sampler gave the first."""
    number = cold_start_policy(ctx.store)
    model = load_model(
        str(ctx.policy_directory(get_policy(ctx.store, number).path)),
        ctx.encoder,
        trust_remote_code=ctx.config.policy.trust_remote_code,
    )
    wanted = ",".join(str(own.question) for own in judged)
    questions = {q.id: q for q in find_questions(ctx.store, f"id IN ({wanted})")} if judged else {}
    chains = [
        ScoredChain(ctx.prompt(questions[own.question], ctx.config.sampling.style), sample.token_ids)
        for own in judged
        for sample in own.samples
    ]
    with ctx.console.bar("scoring samples", len(chains), "chain") as bar:

        def scored(count: int = 1) -> None:
            bar.update(count)
            ctx.check_stop()

        scores = iter([sum(each) for each in token_logprobs(model, ctx.encoder, chains, scored)])
    del model
    free_accelerator()
    for own in judged:
        samples = [s._replace(verifier=(s.logprob or 0.0) - next(scores)) for s in own.samples]
        yield replace(own, samples=samples)
