"""The pass rate of a model before a run, with the prompts, sampling and judges of round 1."""

import random
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from judges.verdict import OUTCOMES
from loop.context import Context
from loop.errors import InputError
from loop.evaluation.judge_chains import ChainToJudge, judge_chains
from loop.swap_and_prove import serve_policy
from policies.sampler import Chain, Request
from store.questions import Question, find_questions


@dataclass(frozen=True)
class PassRate:
    """Shares in [0, 1]. `mixed` questions have right and wrong samples: those teach."""

    questions: int
    samples: int
    style: str
    pass_rate: float
    all_right: float
    mixed: float
    none_right: float
    outcomes: dict[str, float]
    answers: Sequence[tuple[str, int, int, str]]
    """(question, right samples, samples, one of its outputs) of each question, from those that are seldom solved."""


def sample_as_is(ctx: Context, count: int) -> PassRate:
    """Sample `count` questions of split `train` from policy 0, drawn by the run's seed, and judge them.

    Raises InputError where no question that has an answer can be asked.
    """
    sampling, seed = ctx.config.sampling, ctx.config.run.seed
    there = [row["id"] for row in ctx.store.rows(f"SELECT id FROM question WHERE {ASKED} ORDER BY id")]
    drawn = set(random.Random(seed).sample(there, min(count, len(there))))
    questions = {q.id: q for q in find_questions(ctx.store, f"{ASKED} ORDER BY id") if q.id in drawn}
    sampler = serve_policy(ctx, 0, None)
    temperature, samples = sampling.temperature_of(1), ctx.config.samples_of(1)

    def requests() -> Iterator[Request]:
        for question in questions.values():
            prompt = ctx.prompt(question, sampling.style)
            for index in range(samples):
                key, number = (question.id, index), seed + samples * question.id + index
                yield Request(key, prompt, temperature, sampling.max_tokens, number, sampling.top_p)

    chains: list[Chain] = []
    with ctx.reporter.bar("sampling", len(questions) * samples, "sample") as bar:
        for chain in sampler.sample(requests(), lambda request, reason: bar.update()):
            chains.append(chain)
            bar.update()
    if not chains:
        raise InputError("no question of split 'train' could be sampled; see engine.max_model_len")
    return _pass_rate(ctx, questions, sorted(chains, key=lambda chain: str(chain.key)))


ASKED = "split = 'train' AND answers <> '[]' AND unusable IS NULL"


def _pass_rate(ctx: Context, questions: dict[int, Question], chains: Sequence[Chain]) -> PassRate:
    style = ctx.config.sampling.style
    asked = [questions[chain.key[0]] for chain in chains]  # type: ignore[index]
    judged = judge_chains(
        ctx, [ChainToJudge(q, c.text, style, c.finish_reason) for q, c in zip(asked, chains, strict=True)]
    )
    outcomes = Counter[str](each.verdict.outcome for each in judged)
    right: dict[int, list[bool]] = defaultdict(list)
    output: dict[int, str] = {}
    for question, chain, each in zip(asked, chains, judged, strict=True):
        right[question.id].append(each.verdict.outcome == "correct")
        output.setdefault(question.id, chain.text)
    rates = [sum(each) / len(each) for each in right.values()]
    listed = sorted(right, key=lambda number: (sum(right[number]) / len(right[number]), number))
    return PassRate(
        len(right),
        len(chains),
        style,
        outcomes["correct"] / len(chains),
        sum(rate == 1.0 for rate in rates) / len(rates),
        sum(0.0 < rate < 1.0 for rate in rates) / len(rates),
        sum(rate == 0.0 for rate in rates) / len(rates),
        {name: outcomes[name] / len(chains) for name in OUTCOMES if outcomes[name]},
        [(questions[n].text, sum(right[n]), len(right[n]), output[n]) for n in listed],
    )
