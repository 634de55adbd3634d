"""Phase `sample`: draws N chains per question from the serving policy."""

import time
from collections.abc import Iterator

from loop.context import Context
from loop.evaluation.commit_groups import commit_groups
from loop.evaluation.refusals import Refusals
from loop.evaluation.seeds import sample_seed
from loop.swap_and_prove import serve_policy
from policies.sampler import Chain, Request
from store.questions import Question, round_questions
from store.rounds import Round
from store.samples import NewSample, add_samples, present_samples

Key = tuple[int, int]
"""(question id, sample index)"""


def sample(ctx: Context, round_: Round) -> None:
    """Draw the round's missing samples, committing every few hundred chains.

    A question that the sampler refuses becomes unusable. One that the user drops meanwhile is still sampled, because
    the round keeps the questions that it has drawn.
    """
    settings = ctx.config.sampling
    questions = round_questions(ctx.store, round_.number)
    present = present_samples(ctx.store, round_.number, round_.serving_policy, settings.style)
    samples = ctx.config.samples_of(round_.number)
    total = len(questions) * samples
    if len(present) == total:
        return
    sampler = serve_policy(ctx, round_.serving_policy, round_.number)
    started, tokens, sampled = time.monotonic(), 0, 0
    refused = Refusals(ctx)
    with ctx.reporter.bar(f"round {round_.number}: sampling", total, "chain", len(present)) as bar:
        requests = _requests(ctx, round_, questions, present, refused)
        for group in commit_groups(ctx, sampler.sample(requests, refused), bar):
            with ctx.store.transaction():
                add_samples(ctx.store, [_new_sample(ctx, round_, chain) for chain in group])
                refused.record()
            sampled += len(group)
            tokens += sum(len(chain.token_ids) for chain in group)
            bar.note(tokens=f"{tokens / (time.monotonic() - started):,.0f}/s")
    refused.finish(taken=bool(present or sampled))
    rate = tokens / (time.monotonic() - started)
    asked = len(questions) - len(refused.questions)
    ctx.reporter.say(f"  sampled {sampled} chains of {asked} questions, {rate:.0f} tokens/s")


def _requests(
    ctx: Context, round_: Round, questions: list[Question], present: set[Key], refused: Refusals
) -> Iterator[Request]:
    settings = ctx.config.sampling
    for question in questions:
        prompt = ctx.prompt(question, settings.style)
        for index in range(ctx.config.samples_of(round_.number)):
            if (question.id, index) not in present and question.id not in refused.questions:
                yield Request(
                    key=(question.id, index),
                    prompt=prompt,
                    temperature=settings.temperature_of(round_.number),
                    top_p=settings.top_p,
                    max_tokens=settings.max_tokens,
                    seed=sample_seed(ctx.config.run.seed, round_.number, question.id, index),
                )


def _new_sample(ctx: Context, round_: Round, chain: Chain) -> NewSample:
    assert isinstance(chain.key, tuple)
    question, index = chain.key
    settings = ctx.config.sampling
    return NewSample(
        round=round_.number,
        question=question,
        author="policy",
        policy=round_.serving_policy,
        style=settings.style,
        index=index,
        text=chain.text,
        token_ids=chain.token_ids,
        finish_reason=chain.finish_reason,
        logprob=chain.logprob,
        seed=sample_seed(ctx.config.run.seed, round_.number, question, index),
        temperature=settings.temperature_of(round_.number),
    )
