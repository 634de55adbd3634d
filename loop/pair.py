"""Phase `pair`: preferred and rejected samples of the same question."""

import json
import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from judges import find_judge
from judges.verdict import ANSWERED
from judges.vote import vote
from loop.config import PairsConfig
from loop.context import Context
from loop.pair_rules import RULES, Judged, information, random_pairs
from store import Store
from store.judged import judged_by_question, taught
from store.rounds import Round
from store.samples import unpack_token_ids

QUESTION = "SELECT answers, choices, judge FROM question WHERE id = ?"

NO_FLAGS = "[]"
ANSWERS = "SELECT answers FROM question WHERE split = 'train' AND answers <> '[]'"


@dataclass(frozen=True)
class Own:
    """What a question's samples came to: the policy's own, one a text, and the pass rate.

    `taught` are the teacher's right chains, where the policy has none of its own.
    """

    question: int
    samples: list[Judged]
    taught: list[Judged]
    pass_rate: float


@dataclass(frozen=True)
class NewPair:
    """A pair as it is stored."""

    chosen: int
    rejected: int
    rule: str
    weight: float


def pair(ctx: Context, state: Round) -> None:
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
    rows, questions = [], 0
    judged: Iterator[Own] = judged_questions(ctx, state)
    if settings.rule == "margin":
        from loop.verifier_scores import with_verifier_scores  # it loads the learner, no other rule needs it

        judged = with_verifier_scores(ctx, list(judged))
    for own in judged:
        questions += 1
        rng = random.Random(f"{ctx.config.run.seed}:{state.number}:{own.question}:pairs")
        weight = weigh(own)
        samples = _with_votes(ctx.store, own) if settings.rule == "vote" else own.samples
        chosen = choose(replace(own, samples=samples), settings, by_teacher, rng)
        rows += [(state.number, each.chosen, each.rejected, each.rule, each.weight * weight) for each in chosen]
    with ctx.store.transaction():
        ctx.store.connection.execute("DELETE FROM pair WHERE round = ?", (state.number,))
        ctx.store.connection.executemany(
            "INSERT INTO pair (round, chosen, rejected, rule, weight) VALUES (?, ?, ?, ?, ?)", rows
        )
    ctx.console.say(f"  {len(rows)} pairs from {questions} questions")


def choose(own: Own, settings: PairsConfig, teacher: bool, rng: random.Random) -> list[NewPair]:
    """Pairs of one question: by the rule within the pass-rate band, else teacher against policy."""
    if not settings.per_question:
        return []
    if any(sample.outcome == "correct" for sample in own.samples) or settings.rule == "vote":
        low, high = settings.band
        if settings.rule not in ("vote", "shortest_right") and not low <= own.pass_rate <= high:
            return []
        chosen = RULES[settings.rule](own.samples, settings.per_question, rng)
        return [NewPair(each.chosen, each.rejected, settings.rule, each.weight) for each in chosen]
    if not teacher:
        return []
    wrong = [sample for sample in own.samples if sample.outcome == "wrong"]
    return [NewPair(c.chosen, c.rejected, "fallback", 1.0) for c in random_pairs([*own.taught, *wrong], 1, rng)]


def judged_questions(ctx: Context, state: Round) -> Iterator[Own]:
    """The round's questions with their judged samples, one question at a time.

    A flag of `judging.exclude_flags` keeps a right sample off the chosen side: it is left out.
    """
    excluded = set(ctx.config.judging.exclude_flags)
    for question, rows in judged_by_question(ctx.store, state.number):
        own: dict[str, Judged] = {}
        passed = 0
        for row in rows:
            sample = _judged(row)
            passed += sample.outcome == "correct"
            if not _usable(ctx, row, sample, excluded):
                continue
            if sample.text in own:
                own[sample.text] = own[sample.text]._replace(copies=own[sample.text].copies + 1)
            else:
                own[sample.text] = sample
        solved = any(sample.outcome == "correct" for sample in own.values())
        written = [] if solved else taught(ctx.store, question, ctx.config.sampling.style)
        by_teacher = [(row, _judged(row)) for row in written]
        right = [s for row, s in by_teacher if s.outcome == "correct" and _usable(ctx, row, s, excluded)]
        yield Own(question, list(own.values()), right, passed / len(rows))


def _usable(ctx: Context, row: Any, sample: Judged, excluded: set[str]) -> bool:
    may_be_flagged = sample.outcome == "correct" and row["flags"] != NO_FLAGS
    flagged = may_be_flagged and excluded.intersection(json.loads(row["flags"]))
    return not flagged and ctx.encoder.is_plain(sample.token_ids)


def question_weight(ctx: Context) -> Callable[[Own], float]:
    """How much a question's pairs and right samples count, as `pairs.weighting` says; in (0, 1]."""
    match ctx.config.pairs.weighting:
        case "information":
            shares = answer_shares(ctx.store)
            return lambda own: _information(ctx.store, own.question, shares)
        case "advantage":
            return lambda own: max(1.0 - own.pass_rate, 0.01)
    return lambda own: 1.0


def answer_shares(store: Store) -> dict[str, float]:
    """Each accepted answer's share of the train questions, case folded."""
    counts: Counter[str] = Counter()
    questions = 0
    for row in store.rows(ANSWERS):
        questions += 1
        counts.update({answer.casefold() for answer in json.loads(row["answers"])})
    return {answer: count / questions for answer, count in counts.items()}


def _information(store: Store, question: int, shares: dict[str, float]) -> float:
    answers = json.loads(store.value("SELECT answers FROM question WHERE id = ?", question))
    return information(answers, shares) if answers else 1.0


def _judged(row: Any) -> Judged:
    _, number, text, token_ids, logprob, outcome, score, extracted, _ = row  # by place: a round has 160,000 of them
    return Judged(number, text, tuple(unpack_token_ids(token_ids)), outcome, score, extracted, logprob=logprob)


def _with_votes(store: Store, own: Own) -> list[Judged]:
    """Each sample with how many agree with it, by the question's own rule."""
    row = store.row(QUESTION, own.question)
    assert row is not None
    judge, choices = find_judge(row["judge"]), json.loads(row["choices"])
    answers = [s.extracted if s.outcome in ANSWERED else None for s in own.samples]
    ballots = [(n, answers[n]) for n, s in enumerate(own.samples) for _ in range(s.copies)]
    counted = vote([extracted for _, extracted in ballots], lambda left, right: judge.same(left, right, choices))
    votes = {n: count for (n, _), count in zip(ballots, counted.votes, strict=True)}
    return [sample._replace(votes=votes[n]) for n, sample in enumerate(own.samples)]
