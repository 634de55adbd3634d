"""Phase `pair`: chooses preferred and rejected samples of the same question."""

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

from loop.context import Context
from loop.evaluation.judge_chains import ChainToJudge, as_columns, judge_chains
from loop.training.balance import (
    CounterPair,
    Direction,
    Solved,
    counter_pairs,
    directions,
    fold_answer,
    likeliest_right,
)
from loop.training.choose_pairs import choose
from loop.training.pair_candidates import QuestionSamples, judged_questions, question_weight, with_votes
from store.pairs import NewPair, SwappedPair, replace_pairs
from store.questions import questions_by_id
from store.rounds import Round
from store.samples import NewSample


def pair(ctx: Context, round_: Round) -> None:
    """Choose the round's pairs from its verdicts, question by question, all in one transaction.

    Only `wrong` samples are rejected, not those that could not be judged. Equal texts count once; a chain with a
    stray special token is left out. The teacher's chains of any round count. The choice depends on the stored samples
    and on the run's seed; rule `margin` also uses the weights.
    """
    settings = ctx.config.pairs
    weigh = question_weight(ctx)
    fallback = ctx.config.fallback
    by_teacher = fallback.questions > 0 and fallback.use in ("pair", "both")
    pairs, weights, questions = list[NewPair](), Counter[Direction](), 0
    solved, spellings = list[Solved](), dict[str, str]()
    for own in _scored(ctx, judged_questions(ctx, round_)):
        questions += 1
        rng = random.Random(f"{ctx.config.run.seed}:{round_.number}:{own.question}:pairs")
        weight = weigh(own)
        samples = with_votes(ctx.store, own) if settings.rule == "vote" else own.samples
        chosen = choose(replace(own, samples=samples), settings, by_teacher, rng)
        chosen = [replace(new, weight=new.weight * weight) for new in chosen]
        pairs += chosen
        if settings.balance:
            weights += directions(chosen, [*own.samples, *own.teacher_samples])
            right = likeliest_right(own.samples)
            if right is not None:
                spellings.setdefault(fold_answer(right), right.extracted or "")
                solved += [] if chosen else [(own.question, right)]
    rng = random.Random(f"{ctx.config.run.seed}:{round_.number}:counter-pairs")
    swapped = _swapped_pairs(ctx, round_, counter_pairs(ctx.encoder, weights, solved, spellings, rng))
    replace_pairs(ctx.store, round_.number, pairs, swapped)
    counter = f", {len(swapped)} counter-pairs" if settings.balance else ""
    ctx.reporter.say(f"  {len(pairs)} pairs from {questions} questions{counter}")


def _scored(ctx: Context, groups: Iterator[QuestionSamples]) -> Iterator[QuestionSamples]:
    """The groups with the further figures that the rule needs: verifier scores, or a judge run's preferences."""
    match ctx.config.pairs.rule:
        case "margin":
            from loop.training.verifier_scores import with_verifier_scores

            return with_verifier_scores(ctx, list(groups))
        case "judged":
            from loop.training.judged_samples import with_win_rates

            return with_win_rates(ctx, list(groups))
    return groups


def _swapped_pairs(ctx: Context, round_: Round, made: Sequence[CounterPair]) -> list[SwappedPair]:
    """Counter-pairs with the verdict on the swapped chain; those that are not wrong are left out."""
    questions = questions_by_id(ctx.store, {each.question for each in made})
    style = ctx.config.sampling.style
    texts = [ctx.encoder.text(each.swapped) for each in made]
    chains = [
        ChainToJudge(questions[each.question], text, style, "stop") for each, text in zip(made, texts, strict=True)
    ]
    return [
        SwappedPair(
            each.chosen.id,
            NewSample(round_.number, each.question, "swapped", None, style, 0, text, each.swapped, "stop"),
            as_columns(verdict),
        )
        for each, text, verdict in zip(made, texts, judge_chains(ctx, chains), strict=True)
        if verdict.verdict.outcome == "wrong"
    ]
