"""A round's questions with their judged samples, as input of pair rules."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from judges import find_judge
from judges.verdict import ANSWERED
from judges.vote import vote
from loop.context import Context
from loop.questions.answer_shares import AnswerShares, answer_shares, information
from loop.training.pair_rules import JudgedSample
from store import Store
from store.packing import unpack_token_ids
from store.pairs import judged_by_question, teacher_samples
from store.questions import accepted_answers, judge_and_choices
from store.rounds import Round

NO_FLAGS = "[]"


@dataclass(frozen=True)
class QuestionSamples:
    """A question's judged samples: the policy's own, one per text, and the pass rate.

    `teacher_samples` are the teacher's right chains, if the policy has no right one.
    """

    question: int
    samples: list[JudgedSample]
    teacher_samples: list[JudgedSample]
    pass_rate: float


def judged_questions(ctx: Context, round_: Round) -> Iterator[QuestionSamples]:
    """The round's questions with their judged samples, one question at a time.

    A right sample with a flag of `judging.exclude_flags` is left out, so that it is never chosen.
    """
    excluded = set(ctx.config.judging.exclude_flags)
    for question, rows in judged_by_question(ctx.store, round_.number):
        own: dict[str, JudgedSample] = {}
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
        written = [] if solved else teacher_samples(ctx.store, question, ctx.config.sampling.style)
        by_teacher = [(row, _judged(row)) for row in written]
        right = [s for row, s in by_teacher if s.outcome == "correct" and _usable(ctx, row, s, excluded)]
        yield QuestionSamples(question, list(own.values()), right, passed / len(rows))


def _usable(ctx: Context, row: Any, sample: JudgedSample, excluded: set[str]) -> bool:
    may_be_flagged = sample.outcome == "correct" and row["flags"] != NO_FLAGS
    flagged = may_be_flagged and excluded.intersection(json.loads(row["flags"]))
    return not flagged and ctx.encoder.is_plain(sample.token_ids)


def question_weight(ctx: Context) -> Callable[[QuestionSamples], float]:
    """The weight of a question's pairs and right samples by `pairs.weighting`, in (0, 1]."""
    match ctx.config.pairs.weighting:
        case "information":
            shares = answer_shares(ctx.store)
            return lambda own: _information(ctx.store, own.question, shares)
        case "advantage":
            return lambda own: max(1.0 - own.pass_rate, 0.01)
    return lambda own: 1.0


def _information(store: Store, question: int, shares: AnswerShares) -> float:
    answers = accepted_answers(store, question)
    return information(answers, shares) if answers else 1.0


def _judged(row: Any) -> JudgedSample:
    _, number, text, token_ids, logprob, outcome, score, extracted, _ = row  # by position: a round may have 160,000
    return JudgedSample(number, text, tuple(unpack_token_ids(token_ids)), outcome, score, extracted, logprob=logprob)


def with_votes(store: Store, own: QuestionSamples) -> list[JudgedSample]:
    """Each sample with the number of samples that agree with it, by the question's own rule."""
    spec, choices = judge_and_choices(store, own.question)
    judge = find_judge(spec)
    answers = [s.extracted if s.outcome in ANSWERED else None for s in own.samples]
    ballots = [(n, answers[n]) for n, s in enumerate(own.samples) for _ in range(s.copies)]
    counted = vote([extracted for _, extracted in ballots], lambda left, right: judge.same(left, right, choices))
    votes = {n: count for (n, _), count in zip(ballots, counted.votes, strict=True)}
    return [sample._replace(votes=votes[n]) for n, sample in enumerate(own.samples)]
