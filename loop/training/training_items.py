"""What an update trains on: rationales, direct and format items, right samples, pairs; all as token ids."""

import json
import random
from collections.abc import Iterable, Sequence
from itertools import islice, zip_longest
from typing import Any

from judges import extract_answer, find_judge
from loop.context import Context
from loop.phases.fallback import KEPT
from loop.training.pair_candidates import judged_questions, question_weight
from loop.training.pair_rules import sort_by_likelihood
from policies.learner.items import PairItem, SftItem
from store.questions import Question, find_questions
from store.rounds import Round
from store.samples import unpack_token_ids

PAIRS = """
SELECT chosen.question AS question, chosen.style AS style, chosen.token_ids AS chosen,
       rejected.token_ids AS rejected, pair.weight AS weight
FROM pair JOIN sample AS chosen ON chosen.id = pair.chosen JOIN sample AS rejected ON rejected.id = pair.rejected
WHERE pair.round BETWEEN ? AND ? ORDER BY pair.id"""

RATIONALES = """
SELECT sample.question AS question, sample.token_ids AS token_ids
FROM sample JOIN verdict ON verdict.sample = sample.id
WHERE sample.round = 0 AND sample.author = 'teacher' AND verdict.outcome = 'correct' ORDER BY sample.question"""


def cold_start_items(ctx: Context, state: Round) -> list[SftItem]:
    """The cold start's mixture: kept rationales, direct short answers, and format items."""
    settings = ctx.config.cold_start
    return [*_rationales(ctx), *_short_answers(ctx, "direct", settings.direct_items, settings.format_items)]


def imitation_items(ctx: Context, state: Round) -> list[SftItem]:
    """The round's right samples with the mixture beside them, then what the teacher wrote for its hard questions."""
    return [*rft_items(ctx, state), *taught_items(ctx, state)]


def rft_items(ctx: Context, state: Round) -> list[SftItem]:
    """The round's right samples, and beside them what keeps the other formats alive.

    Rejection-sampling fine-tuning (arXiv 2308.01825): of each question within the band, up to
    `rft.per_question` right chains, each text once, picked as `rft.pick` says. On one data set alone this
    is known to destroy the formats that are not in it (LLaVA-Reasoner), hence the mixture.
    """
    settings, seed = ctx.config.rft, ctx.config.run.seed
    mixture = _short_answers(ctx, f"direct:{state.number}", settings.direct_items, settings.format_items)
    known = _rationales(ctx) if settings.rationales else []
    rationales = random.Random(f"{seed}:{state.number}:rationales").sample(known, min(settings.rationales, len(known)))
    if not settings.per_question:
        return [*mixture, *rationales]
    weigh = question_weight(ctx)
    low, high = settings.band
    picked: list[tuple[int, tuple[int, ...], float]] = []
    for own in judged_questions(ctx, state):
        rng = random.Random(f"{seed}:{state.number}:{own.question}:rft")
        right = [sample for sample in own.samples if sample.outcome == "correct"]
        if low <= own.pass_rate <= high:
            rng.shuffle(right)
            ranked = sort_by_likelihood(right) if settings.pick == "likeliest" else right
            weight = weigh(own)
            picked += [(own.question, sample.token_ids, weight) for sample in ranked[: settings.per_question]]
    questions = _questions(ctx, {question for question, _, _ in picked})
    items = [
        SftItem(ctx.prompt(questions[question], ctx.config.sampling.style), token_ids)
        for question, token_ids, weight in picked
        if _enters(weight, f"{seed}:{state.number}:{question}:{token_ids}")
    ]
    return [*items, *mixture, *rationales]


def taught_items(ctx: Context, state: Round) -> list[SftItem]:
    """What the teacher wrote for this round's hard questions, where the recipe imitates it."""
    if ctx.config.fallback.use not in ("sft", "both"):
        return []
    return _as_items(ctx, ctx.store.rows(KEPT, state.number))


def pair_items(ctx: Context, state: Round) -> list[PairItem]:
    """The round's pairs, and those of the rounds replayed, on the token ids that the sampler wrote.

    A pair of weight w in (0, 1] enters with probability w, drawn from the seed. In expectation that is the
    weighted loss.
    """
    settings = ctx.config.pairs
    rows = ctx.store.rows(PAIRS, max(1, state.number - settings.replay_rounds), state.number)
    questions = _questions(ctx, {row["question"] for row in rows})
    items = []
    for n, row in enumerate(rows):
        if not _enters(row["weight"], f"{ctx.config.run.seed}:{state.number}:{n}"):
            continue
        chosen, rejected = unpack_token_ids(row["chosen"]), unpack_token_ids(row["rejected"])
        if settings.max_words is not None:
            chosen, rejected = (_cut(ctx, ids, settings.max_words) for ids in (chosen, rejected))
        items.append(PairItem(ctx.prompt(questions[row["question"]], row["style"]), tuple(chosen), tuple(rejected)))
    if settings.max_words is not None and items:
        kept = sum(
            extract_answer(ctx.encoder.text(item.chosen), needs_marker=True) is not None for item in items
        ) / len(items)
        ctx.reporter.say(f"  cut to {settings.max_words} words; {kept:.0%} of the chosen chains still carry an answer")
    return items


def _enters(weight: float, drawn_from: str) -> bool:
    return weight >= 1.0 or random.Random(drawn_from).random() < weight


def _cut(ctx: Context, token_ids: list[int], words: int) -> list[int]:
    """The longest beginning with at most so many whitespace-separated words (LLaVA-Reasoner's truncation)."""
    if len(ctx.encoder.text(token_ids).split()) <= words:
        return token_ids
    low, high = 0, len(token_ids)
    while low < high - 1:
        middle = (low + high) // 2
        fits = len(ctx.encoder.text(token_ids[:middle]).split()) <= words
        low, high = (middle, high) if fits else (low, middle)
    return token_ids[:low]


def _rationales(ctx: Context) -> list[SftItem]:
    return _as_items(ctx, ctx.store.rows(RATIONALES))


def _as_items(ctx: Context, rows: Sequence[Any]) -> list[SftItem]:
    questions = _questions(ctx, {row["question"] for row in rows})
    return [
        SftItem(ctx.prompt(questions[row["question"]], "cot"), tuple(unpack_token_ids(row["token_ids"])))
        for row in rows
    ]


def _short_answers(ctx: Context, draw: str, direct_items: int, format_items: int) -> list[SftItem]:
    """Direct items drawn from the train questions, then format items.

    Format items are direct items spread evenly over the distinct answers, so that every short form
    (each word, yes and no) is seen as often as any other.
    """
    rows = ctx.store.rows("SELECT id, answers FROM question WHERE split = 'train' AND answers <> '[]' ORDER BY hash")
    random.Random(f"{ctx.config.run.seed}:{draw}").shuffle(rows)
    by_answer: dict[str, list[int]] = {}
    for row in rows[direct_items:]:
        by_answer.setdefault(json.loads(row["answers"])[0].casefold(), []).append(row["id"])
    turns = (each for turn in zip_longest(*by_answer.values()) for each in turn if each is not None)
    wanted = [row["id"] for row in rows[:direct_items]] + list(islice(turns, format_items))
    questions = _questions(ctx, wanted)
    return [
        SftItem(ctx.prompt(question, "direct"), tuple(ctx.encoder.completion_ids(answer)))
        for question in (questions[number] for number in wanted)
        if (answer := find_judge(question.judge).told(question.answers, question.choices)) is not None
    ]


def _questions(ctx: Context, ids: Iterable[int]) -> dict[int, Question]:
    wanted = ",".join(map(str, sorted(set(ids))))
    found = find_questions(ctx.store, f"id IN ({wanted})") if wanted else []
    return {question.id: question for question in found}
