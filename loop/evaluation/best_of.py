"""Best of K with the verifier: greedy, majority vote, best-of-K and weighted vote of one policy on one split.

The verifier scores each token of a chain log pi_policy - log pi_reference (LLaVA-Reasoner, arXiv 2410.16198,
section 5; a DPO model is a reward for each token, arXiv 2404.12358). Of the two policies the later one verifies,
whichever of them wrote the chains (in the paper, the earlier one). The score of a chain is that of its worst token (the
minimum over steps of Math-Shepherd, arXiv 2312.08935). The sum is less useful: a rare phrase that became likelier
outweighs the one token at which a chain goes wrong (docs/recipes.md has figures of both). Chains, verdicts and scores
are kept in `evaluation_sample` and `verifier_score`, so nothing is done twice.
"""

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from judges import find_judge
from judges.vote import Same, vote
from loop.context import Context
from loop.evaluation.commit_groups import commit_groups
from loop.evaluation.judge_chains import ChainToJudge, JudgeResult, as_columns, judge_chains
from loop.evaluation.refusals import Refusals
from loop.evaluation.statistics import mcnemar_p_value, wilson_interval
from loop.swap_and_prove import serve_policy
from policies.sampler import Chain, Request
from policies.verifier import ScoredChain
from store.evaluations import (
    NewEvaluationSample,
    NewVerifierScore,
    add_evaluation_samples,
    add_verifier_scores,
    greedy_outcomes,
    present_evaluation_samples,
    scored_samples,
    unscored_samples,
)
from store.packing import unpack_scores, unpack_token_ids
from store.questions import Question


@dataclass(frozen=True)
class Ballot:
    """One chain of a question: its answer (None if there is none), whether it is right, its verifier score."""

    answer: str | None
    correct: bool
    score: float


@dataclass(frozen=True)
class Figure:
    """An accuracy with its 95% interval, and the paired test against greedy."""

    name: str
    questions: int
    correct: int
    gained: int
    lost: int

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's, 95%."""
        return wilson_interval(self.correct, self.questions)

    @property
    def p_value(self) -> float:
        """Exact McNemar against greedy."""
        return mcnemar_p_value(self.gained, self.lost)


def best_of(
    ctx: Context, policy: int, reference: int, split: str, questions: Sequence[Question], samples: int
) -> list[Figure]:
    """Sample, judge and score what is missing, then count. The policy's greedy answers must be stored.

    The verifier compares the later of `policy` (whose chains are counted) and `reference` with the earlier.
    """
    style = ctx.config.sampling.style
    by_id = {question.id: question for question in questions}
    _sample(ctx, policy, split, style, by_id, samples)
    _score(ctx, policy, reference, split, style, by_id)
    greedy = greedy_outcomes(ctx.store, policy, split, style)
    ballots: dict[int, list[Ballot]] = {}
    for row in scored_samples(ctx.store, policy, reference, split, style, samples):
        ballots.setdefault(row["question"], []).append(read_ballot(row))
    counted = [question for question in by_id if question in greedy and question in ballots]
    ways: dict[str, list[float]] = {"greedy": [], "one sample": [], "majority vote": [], "best of K": []}
    ways |= {"weighted vote": [], "pass@K": []}
    for number in counted:
        cast, same = ballots[number], same_answer(by_id[number])
        votes = vote([each.answer for each in cast], same).votes
        ways["greedy"].append(greedy[number])
        ways["one sample"].append(cast[0].correct)
        ways["majority vote"].append(chosen_by(cast, [float(v) for v in votes]))
        ways["best of K"].append(chosen_by(cast, [each.score for each in cast]))
        ways["weighted vote"].append(chosen_by(cast, weighted_votes(cast, same)))
        ways["pass@K"].append(any(each.correct for each in cast))
    return [paired_figure(name, right, ways["greedy"]) for name, right in ways.items()]


def paired_figure(name: str, right: Sequence[float], greedy: Sequence[float]) -> Figure:
    """The figure of one method, from its right answers and the greedy ones, in the same order of questions."""
    gained = sum(bool(mine) and not theirs for mine, theirs in zip(right, greedy, strict=True))
    lost = sum(bool(theirs) and not mine for mine, theirs in zip(right, greedy, strict=True))
    return Figure(name, len(right), sum(map(bool, right)), gained, lost)


def read_ballot(row: Any, together: Callable[[Sequence[float]], float] = min) -> Ballot:
    """A row of `scored_samples` as a ballot; `together` makes one score of its tokens' scores.

    The ballot has no answer if the chain does not count.
    """
    if row["outcome"] not in ("correct", "wrong") or row["token_scores"] is None:
        return Ballot(None, False, 0.0)
    scores = unpack_scores(row["token_scores"])
    return Ballot(row["extracted"], row["outcome"] == "correct", together(scores) if scores else 0.0)


def same_answer(question: Question) -> Same:
    """Whether two answers to the question are the same, by its own judge."""
    judge = find_judge(question.judge)
    return lambda left, right: judge.same(left, right, question.choices)


def chosen_by(ballots: Sequence[Ballot], weights: Sequence[float]) -> bool:
    """Whether the answered chain with the greatest weight is right; the first among equals, wrong if none answered."""
    answered = [n for n, each in enumerate(ballots) if each.answer is not None]
    return bool(answered) and ballots[max(answered, key=lambda n: (weights[n], -n))].correct


def weighted_votes(ballots: Sequence[Ballot], same: Same) -> list[float]:
    """For each chain the votes for its answer, where a chain's vote weighs exp(its score); 0 without an answer."""
    highest = max((each.score for each in ballots if each.answer is not None), default=0.0)
    totals: list[tuple[str, float]] = []
    classes: list[int | None] = []
    for each in ballots:
        if each.answer is None:
            classes.append(None)
            continue
        place = next((n for n, (known, _) in enumerate(totals) if known == each.answer or same(each.answer, known)), -1)
        if place < 0:
            place = len(totals)
            totals.append((each.answer, 0.0))
        totals[place] = (totals[place][0], totals[place][1] + math.exp(each.score - highest))
        classes.append(place)
    return [0.0 if place is None else totals[place][1] for place in classes]


def _sample(ctx: Context, policy: int, split: str, style: str, questions: dict[int, Question], samples: int) -> None:
    """Draw the missing of K chains per question, at the temperature of the first round."""
    present = present_evaluation_samples(ctx.store, policy, split, style)
    wanted = [(q, n) for q in questions for n in range(samples) if (q, n) not in present]
    if not wanted:
        return
    sampler, settings = serve_policy(ctx, policy, None), ctx.config.sampling
    temperature = settings.temperature_of(1)

    def requests() -> Iterator[Request]:
        for question, index in wanted:
            yield Request(
                key=(question, index),
                prompt=ctx.prompt(questions[question], style),
                temperature=temperature,
                top_p=settings.top_p,
                max_tokens=ctx.config.evaluation.max_tokens,
                seed=evaluation_seed(ctx.config.run.seed, policy, question, index),
            )

    def commit(group: list[Chain]) -> None:
        chains = [ChainToJudge(questions[c.key[0]], c.text, style, c.finish_reason) for c in group]  # type: ignore[index]
        added = [
            _new_sample(policy, split, style, c, judged)
            for c, judged in zip(group, judge_chains(ctx, chains), strict=True)
        ]
        with ctx.store.transaction():
            add_evaluation_samples(ctx.store, added)
            refused.record()

    taken, refused = bool(present), Refusals(ctx)
    total = len(questions) * samples
    with ctx.reporter.bar(f"sampling policy {policy} ({split})", total, "chain", total - len(wanted)) as bar:
        for group in commit_groups(ctx, sampler.sample(requests(), refused), bar):
            commit(group)
            taken = True
    refused.finish(taken=taken)


def _new_sample(policy: int, split: str, style: str, chain: Chain, judged: JudgeResult) -> NewEvaluationSample:
    assert isinstance(chain.key, tuple)
    question, index = chain.key
    return NewEvaluationSample(
        policy,
        split,
        style,
        question,
        index,
        chain.text,
        chain.token_ids,
        chain.finish_reason,
        *as_columns(judged),
    )


def _score(ctx: Context, policy: int, reference: int, split: str, style: str, questions: dict[int, Question]) -> None:
    """Compute the missing per-token log-ratios of chains, by the learner.

    A chain with a stray image token has none, because no model can read it; it does not vote.
    """
    found = unscored_samples(ctx.store, policy, reference, split, style)
    rows = [
        row
        for row in found
        if row["question"] in questions and ctx.encoder.is_plain(unpack_token_ids(row["token_ids"]))
    ]
    if not rows:
        return
    chains = [
        ScoredChain(ctx.prompt(questions[row["question"]], style), tuple(unpack_token_ids(row["token_ids"])))
        for row in rows
    ]
    earlier, later = (_logprobs(ctx, number, chains) for number in sorted((policy, reference)))
    ratios = [[b - a for a, b in zip(*pair, strict=True)] for pair in zip(earlier, later, strict=True)]
    with ctx.store.transaction():
        add_verifier_scores(
            ctx.store, [NewVerifierScore(row["id"], reference, each) for row, each in zip(rows, ratios, strict=True)]
        )


def _logprobs(ctx: Context, policy: int, chains: list[ScoredChain]) -> list[list[float]]:
    model = ctx.load_policy(policy)
    with ctx.reporter.bar(f"scoring by policy {policy}", len(chains), "chain") as bar:

        def scored(count: int = 1) -> None:
            bar.update(count)
            ctx.check_stop()

        found = ctx.learner.token_logprobs(model, chains, scored)
    del model
    ctx.learner.free_memory()
    return found


def evaluation_seed(run_seed: int, policy: int, question: int, index: int) -> int:
    """The seed of one request: a hash of all four, in [0, 2**31)."""
    digest = hashlib.sha256(f"{run_seed}:evaluation:{policy}:{question}:{index}".encode()).digest()
    return int.from_bytes(digest[:4]) >> 1


def format_figures(figures: Sequence[Figure], samples: int) -> str:
    """One line per method, with its interval and its difference to greedy."""
    names = [each.name.replace("K", str(samples)) for each in figures]
    width = max(map(len, ["way", *names]))
    lines = [f"{'way':>{width}}  {'accuracy':>20}  to greedy (paired)"]
    for name, each in zip(names, figures, strict=True):
        low, high = each.interval
        share = each.correct / max(1, each.questions)
        against = "" if each.name == "greedy" else f"{each.gained - each.lost:+d} questions, p = {each.p_value:.3g}"
        lines.append(f"{name:>{width}}  {100 * share:5.1f}% [{100 * low:.1f}, {100 * high:.1f}]  {against}")
    return "\n".join(lines)


def as_json(figure: Figure) -> dict[str, Any]:
    """A figure as the command prints it with --json."""
    low, high = figure.interval
    return {**asdict(figure), "accuracy": figure.correct / max(1, figure.questions), "low": low, "high": high}
