"""Verifier scores of a round's samples, for the pair rule `margin`."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from loop.context import Context
from loop.training.pair_candidates import QuestionSamples
from policies.verifier import ScoredChain
from store.questions import questions_by_id
from store.rounds import cold_start_policy


def with_verifier_scores(ctx: Context, judged: Sequence[QuestionSamples]) -> Iterator[QuestionSamples]:
    """The groups with log pi_serving - log pi_cold_start of every sample; the first term is the sampler's."""
    model = ctx.load_policy(cold_start_policy(ctx.store))
    questions = questions_by_id(ctx.store, [own.question for own in judged])
    chains = [
        ScoredChain(ctx.prompt(questions[own.question], ctx.config.sampling.style), sample.token_ids)
        for own in judged
        for sample in own.samples
    ]
    with ctx.reporter.bar("scoring samples", len(chains), "chain") as bar:

        def scored(count: int = 1) -> None:
            bar.update(count)
            ctx.check_stop()

        scores = iter([sum(each) for each in ctx.learner.token_logprobs(model, chains, scored)])
    del model
    ctx.learner.free_memory()
    for own in judged:
        samples = [s._replace(verifier=(s.logprob or 0.0) - next(scores)) for s in own.samples]
        yield replace(own, samples=samples)
