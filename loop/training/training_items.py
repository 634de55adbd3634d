"""Training items of an update: rationales, direct and format items, right samples, pairs; all as token ids."""

import random
from collections.abc import Collection, Sequence
from dataclasses import replace
from itertools import islice, zip_longest
from typing import Any

from judges import extract_answer, find_judge
from loop.context import Context
from loop.training.pair_candidates import judged_questions, question_weight
from loop.training.pair_rules import sort_by_likelihood
from policies.learner.items import PairItem, SftItem
from store.packing import unpack_token_ids
from store.pairs import training_pairs
from store.questions import questions_by_id, train_answers, units_of_round
from store.rounds import Round
from store.samples import cold_start_rationales, pass_rates
from store.teacher.fallback import kept_chains


def cold_start_items(ctx: Context, round_: Round) -> list[SftItem]:
    """The cold start's mixture: kept rationales, direct short answers, and format items."""
    settings = ctx.config.cold_start
    direct = _short_answers(ctx, "direct", settings.direct_items, settings.format_items, settings.kinds)
    return [*_rationales(ctx), *direct]


def imitation_items(ctx: Context, round_: Round) -> list[SftItem]:
    """The round's right samples with the mixture, then the teacher's chains for its hard questions."""
    return [*rft_items(ctx, round_), *taught_items(ctx, round_)]


def rft_items(ctx: Context, round_: Round) -> list[SftItem]:
    """The round's right samples, mixed with items that preserve the other formats.

    Rejection-sampling fine-tuning (arXiv 2308.01825): of each question within the band, up to `rft.per_question` right
    chains, each text once, picked as `rft.pick` says. For a preference the lower pass rate of both orders counts: a
    judge that always names one place is right in half of the questions without reason. Training on one kind of data is
    known to destroy other formats (LLaVA-Reasoner), hence the mixture.
    """
    settings, seed = ctx.config.rft, ctx.config.run.seed
    mixture = _short_answers(ctx, f"direct:{round_.number}", settings.direct_items, settings.format_items)
    known = _rationales(ctx) if settings.rationales else []
    rationales = random.Random(f"{seed}:{round_.number}:rationales").sample(known, min(settings.rationales, len(known)))
    if not settings.per_question:
        return [*mixture, *rationales]
    weigh = question_weight(ctx)
    lowest = lowest_of_unit(ctx, round_)
    low, high = settings.band
    picked: list[tuple[int, tuple[int, ...], float]] = []
    for own in judged_questions(ctx, round_):
        rng = random.Random(f"{seed}:{round_.number}:{own.question}:rft")
        right = [sample for sample in own.samples if sample.outcome == "correct"]
        if low <= lowest.get(own.question, own.pass_rate) <= high:
            rng.shuffle(right)
            ranked = sort_by_likelihood(right) if settings.pick == "likeliest" else right
            weight = weigh(own)
            picked += [(own.question, sample.token_ids, weight) for sample in ranked[: settings.per_question]]
    questions = questions_by_id(ctx.store, {question for question, _, _ in picked})
    items = [
        SftItem(ctx.prompt(questions[question], ctx.config.sampling.style), token_ids)
        for question, token_ids, weight in picked
        if _enters(weight, f"{seed}:{round_.number}:{question}:{token_ids}")
    ]
    return [*items, *mixture, *rationales]


def lowest_of_unit(ctx: Context, round_: Round) -> dict[int, float]:
    """Question -> the lowest pass rate in its unit, for questions that belong to one."""
    units = units_of_round(ctx.store, round_.number)
    rates = pass_rates(ctx.store, round_.number, round_.number) if units else {}
    lowest: dict[str, float] = {}
    for question, unit in units.items():
        lowest[unit] = min(lowest.get(unit, 1.0), rates.get(question, 0.0))
    return {question: lowest[unit] for question, unit in units.items()}


def taught_items(ctx: Context, round_: Round) -> list[SftItem]:
    """The teacher's chains for this round's hard questions, if the recipe imitates them."""
    if ctx.config.fallback.use not in ("sft", "both"):
        return []
    return _as_items(ctx, kept_chains(ctx.store, round_.number))


def pair_items(ctx: Context, round_: Round) -> list[PairItem]:
    """The round's pairs, and those of replayed rounds, on the sampler's token ids.

    A pair of weight w in (0, 1] enters with probability w, drawn from the seed. In expectation that is the
    weighted loss.
    """
    settings = ctx.config.pairs
    rows = training_pairs(ctx.store, max(1, round_.number - settings.replay_rounds), round_.number)
    questions = questions_by_id(ctx.store, {row["question"] for row in rows})
    items = []
    for n, row in enumerate(rows):
        if not _enters(row["weight"], f"{ctx.config.run.seed}:{round_.number}:{n}"):
            continue
        sides = written = [unpack_token_ids(row["chosen"]), unpack_token_ids(row["rejected"])]
        if settings.max_words is not None:
            sides = [_cut(ctx, ids, settings.max_words) for ids in written]
            if sides[0] == sides[1]:
                continue  # the difference was cut off, as in a counter-pair
        item = PairItem(ctx.prompt(questions[row["question"]], row["style"]), tuple(sides[0]), tuple(sides[1]))
        if row["policy"] is not None and sides == written:
            logprobs = (row["chosen_logprob"], row["rejected_logprob"])
            item = replace(item, sampled=logprobs, sampled_by=row["policy"])
        items.append(item)
    if settings.max_words is not None and items:
        kept = sum(
            extract_answer(ctx.encoder.text(item.chosen), needs_marker=True) is not None for item in items
        ) / len(items)
        ctx.reporter.say(f"  cut to {settings.max_words} words; {kept:.0%} of the chosen chains still carry an answer")
    return items


def _enters(weight: float, drawn_from: str) -> bool:
    return weight >= 1.0 or random.Random(drawn_from).random() < weight


def _cut(ctx: Context, token_ids: list[int], words: int) -> list[int]:
    """The longest prefix with at most this many whitespace-separated words (LLaVA-Reasoner's truncation)."""
    if len(ctx.encoder.text(token_ids).split()) <= words:
        return token_ids
    low, high = 0, len(token_ids)
    while low < high - 1:
        middle = (low + high) // 2
        fits = len(ctx.encoder.text(token_ids[:middle]).split()) <= words
        low, high = (middle, high) if fits else (low, middle)
    return token_ids[:low]


def _rationales(ctx: Context) -> list[SftItem]:
    return _as_items(ctx, cold_start_rationales(ctx.store))


def _as_items(ctx: Context, rows: Sequence[Any]) -> list[SftItem]:
    """Chains of the teacher, which may write more than the model reads at once: such ones are left out."""
    questions = questions_by_id(ctx.store, {row["question"] for row in rows})
    items = [
        SftItem(ctx.prompt(questions[row["question"]], "cot"), tuple(unpack_token_ids(row["token_ids"])))
        for row in rows
    ]
    kept = [item for item in items if _fits(ctx, item)]
    if len(kept) < len(items):
        ctx.reporter.say(
            f"  {len(items) - len(kept)} of {len(items)} chains of the teacher are left out: with their prompts they"
            f" are longer than the {ctx.encoder.context_length} tokens that the model takes"
        )
    return kept


def _fits(ctx: Context, item: SftItem) -> bool:
    most = ctx.encoder.context_length
    if most is None or len(item.completion) <= most // 4:  # else its prompt alone would fill three quarters
        return True
    return len(ctx.encoder.expanded_prompt_ids(item.prompt)) + len(item.completion) <= most


def _short_answers(
    ctx: Context, draw: str, direct_items: int, format_items: int, kinds: Collection[str] = ()
) -> list[SftItem]:
    """Direct items drawn from the train questions (only of `kinds`, if given), then format items.

    Format items are direct items spread evenly over the distinct answers, so that every short form
    (each word, yes and no) is seen as often as any other.
    """
    known = train_answers(ctx.store, kinds)
    random.Random(f"{ctx.config.run.seed}:{draw}").shuffle(known)
    by_answer: dict[str, list[int]] = {}
    for question_id, answers in known[direct_items:]:
        by_answer.setdefault(answers[0].casefold(), []).append(question_id)
    turns = (each for turn in zip_longest(*by_answer.values()) for each in turn if each is not None)
    wanted = [question_id for question_id, _ in known[:direct_items]] + list(islice(turns, format_items))
    questions = questions_by_id(ctx.store, wanted)
    return [
        SftItem(ctx.prompt(question, "direct"), tuple(ctx.encoder.completion_ids(answer)))
        for question in (questions[number] for number in wanted)
        if (answer := find_judge(question.judge).reference_answer(question.answers, question.choices)) is not None
    ]
