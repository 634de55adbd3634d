"""Phase `pair`: preferred and rejected samples of the same question."""

import json
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

from judges import find_judge
from judges.vote import vote
from loop.config import PairsConfig
from loop.context import Context
from loop.pair_rules import RULES, Judged, information, random_pairs
from policies.learner import free_accelerator, load_model
from policies.verifier import ScoredChain, token_logprobs
from store import Store
from store.questions import find_questions
from store.rounds import Round, get_policy
from store.samples import unpack_token_ids

JUDGED = """
SELECT sample.question, sample.id, sample.text, sample.token_ids, sample.author, sample.logprob,
       verdict.outcome, verdict.score, verdict.extracted, verdict.flags
FROM round_question JOIN sample ON sample.question = round_question.question JOIN verdict ON verdict.sample = sample.id
WHERE round_question.round = :round AND sample.style = :style
  AND (sample.author = 'policy' AND sample.round = :round OR sample.author = 'teacher')
ORDER BY round_question.question, sample.author, sample.round, sample.policy, sample."index" """

QUESTION = "SELECT answers, choices, judge FROM question WHERE id = ?"

ANSWERS = "SELECT answers FROM question WHERE split = 'train' AND answers <> '[]'"


@dataclass(frozen=True)
class Own:
    """What a question's samples came to: the policy's own, one a text, the teacher's right ones, the pass rate."""

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
    round counts. The choice depends on the verdicts and the run's seed alone.
    """
    settings = ctx.config.pairs
    shares = answer_shares(ctx.store) if settings.weighting == "information" else {}
    rows, questions = [], 0
    judged: Iterator[Own] = judged_questions(ctx, state)
    if settings.rule == "margin":
        judged = _with_verifier_scores(ctx, list(judged))
    for own in judged:
        questions += 1
        rng = random.Random(f"{ctx.config.run.seed}:{state.number}:{own.question}:pairs")
        weight = _information(ctx.store, own.question, shares) if shares else 1.0
        samples = _with_votes(ctx.store, own) if settings.rule == "vote" else own.samples
        chosen = choose(replace(own, samples=samples), settings, ctx.config.fallback.use in ("pair", "both"), rng)
        rows += [(state.number, each.chosen, each.rejected, each.rule, each.weight * weight) for each in chosen]
    with ctx.store.transaction():
        ctx.store.db.conn.execute("DELETE FROM pair WHERE round = ?", (state.number,))
        ctx.store.db.conn.executemany(
            "INSERT INTO pair (round, chosen, rejected, rule, weight) VALUES (?, ?, ?, ?, ?)", rows
        )
    ctx.console.say(f"  {len(rows)} pairs from {questions} questions")


def choose(own: Own, settings: PairsConfig, teacher: bool, rng: random.Random) -> list[NewPair]:
    """Pairs of one question: by the rule within the pass-rate band, else teacher against policy."""
    if any(sample.outcome == "correct" for sample in own.samples) or settings.rule == "vote":
        low, high = settings.band
        if settings.rule not in ("vote", "shortest_right") and not low <= own.pass_rate <= high:
            return []
        chosen = RULES[settings.rule](own.samples, settings.per_question, rng)
        return [NewPair(each.chosen, each.rejected, settings.rule, each.weight) for each in chosen]
    if not teacher or not settings.per_question:
        return []
    wrong = [sample for sample in own.samples if sample.outcome == "wrong"]
    return [NewPair(c.chosen, c.rejected, "fallback", 1.0) for c in random_pairs([*own.taught, *wrong], 1, rng)]


def judged_questions(ctx: Context, state: Round) -> Iterator[Own]:
    """The round's questions with their judged samples, one question at a time.

    A flag of `judging.exclude_flags` keeps a right sample off the chosen side: it is left out.
    """
    excluded = set(ctx.config.judging.exclude_flags)
    key = {"round": state.number, "style": ctx.config.sampling.style}
    for question, rows in groupby(ctx.store.db.query(JUDGED, key), key=lambda row: row["question"]):
        own: dict[str, Judged] = {}
        taught: list[Judged] = []
        passed = total = 0
        for row in rows:
            sample = _judged(row)
            by_policy = row["author"] == "policy"
            total += by_policy
            passed += by_policy and sample.outcome == "correct"
            flagged = sample.outcome == "correct" and excluded.intersection(json.loads(row["flags"]))
            if flagged or not ctx.encoder.is_plain(sample.token_ids):
                continue
            if not by_policy:
                taught += [sample] if sample.outcome == "correct" else []
            elif sample.text in own:
                own[sample.text] = replace(own[sample.text], copies=own[sample.text].copies + 1)
            else:
                own[sample.text] = sample
        yield Own(question, list(own.values()), taught, passed / max(1, total))


def answer_shares(store: Store) -> dict[str, float]:
    """Each accepted answer's share of the train questions, case folded."""
    counts: Counter[str] = Counter()
    questions = 0
    for row in store.db.query(ANSWERS):
        questions += 1
        counts.update({answer.casefold() for answer in json.loads(row["answers"])})
    return {answer: count / questions for answer, count in counts.items()}


def _information(store: Store, question: int, shares: dict[str, float]) -> float:
    answers = json.loads(store.value("SELECT answers FROM question WHERE id = ?", question))
    return information(answers, shares) if answers else 1.0


def _judged(row: Any) -> Judged:
    return Judged(
        id=row["id"],
        text=row["text"],
        token_ids=tuple(unpack_token_ids(row["token_ids"])),
        outcome=row["outcome"],
        score=row["score"],
        extracted=row["extracted"],
        logprob=row["logprob"],
    )


def _with_votes(store: Store, own: Own) -> list[Judged]:
    """Each sample with how many agree with it, by the question's own rule."""
    row = store.row(QUESTION, own.question)
    assert row is not None
    judge, choices = find_judge(row["judge"]), json.loads(row["choices"])
    ballots = [(n, s.extracted) for n, s in enumerate(own.samples) for _ in range(s.copies)]
    counted = vote([extracted for _, extracted in ballots], lambda left, right: judge.same(left, right, choices))
    votes = {n: count for (n, _), count in zip(ballots, counted.votes, strict=True)}
    return [replace(sample, votes=votes[n]) for n, sample in enumerate(own.samples)]


def _with_verifier_scores(ctx: Context, judged: Sequence[Own]) -> Iterator[Own]:
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
        scores = iter([sum(each) for each in token_logprobs(model, ctx.encoder, chains, bar.update)])
    del model
    free_accelerator()
    for own in judged:
        samples = [replace(s, verifier=(s.logprob or 0.0) - next(scores)) for s in own.samples]
        yield replace(own, samples=samples)


def cold_start_policy(store: Store) -> int:
    """The policy that the rounds began from: the cold start's, or the base where it made none."""
    number: int | None = store.value("SELECT coalesce(candidate_policy, serving_policy) FROM round WHERE number = 0")
    return number or 0
