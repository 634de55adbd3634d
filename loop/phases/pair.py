"""Phase `pair`: preferred and rejected samples of the same question."""

import random
from collections.abc import Iterator
from dataclasses import replace

from loop.context import Context
from loop.training.choose_pairs import choose
from loop.training.pair_candidates import QuestionSamples, judged_questions, question_weight, with_votes
from store.pairs import NewPair, replace_pairs
from store.rounds import Round


def pair(ctx: Context, round_: Round) -> None:
    """Choose the round's pairs from its verdicts, question by question, all in one transaction.

    Only `wrong` is rejected: what could not be judged says nothing against its reasoning. Equal
    texts count once; a chain with a stray special token is left out. What the teacher wrote in any
    round counts. The choice depends on what the store has of the samples and on the run's seed; `margin` looks at
    the weights too.
    """
    settings = ctx.config.pairs
    weigh = question_weight(ctx)
    fallback = ctx.config.fallback
    by_teacher = fallback.questions > 0 and fallback.use in ("pair", "both")
    pairs, questions = list[NewPair](), 0
    judged: Iterator[QuestionSamples] = judged_questions(ctx, round_)
    if settings.rule == "margin":
        from loop.training.verifier_scores import with_verifier_scores

        judged = with_verifier_scores(ctx, list(judged))
    for own in judged:
        questions += 1
        rng = random.Random(f"{ctx.config.run.seed}:{round_.number}:{own.question}:pairs")
        weight = weigh(own)
        samples = with_votes(ctx.store, own) if settings.rule == "vote" else own.samples
        chosen = choose(replace(own, samples=samples), settings, by_teacher, rng)
        pairs += [replace(new, weight=new.weight * weight) for new in chosen]
    replace_pairs(ctx.store, round_.number, pairs)
    ctx.reporter.say(f"  {len(pairs)} pairs from {questions} questions")
