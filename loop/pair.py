"""Phase `pair`: preferred and rejected samples of the same question."""

import random
from collections import defaultdict
from collections.abc import Callable

from loop.config import PairsConfig
from loop.context import Context
from store.rounds import Round
from store.samples import unpack_token_ids

Sampled = tuple[int, str]
"""(sample id, text)"""
Rule = Callable[[list[Sampled], list[Sampled], int, random.Random], list[tuple[int, int]]]
"""(right, wrong, most, generator) -> [(chosen id, rejected id)]."""


def random_pairs(right: list[Sampled], wrong: list[Sampled], most: int, rng: random.Random) -> list[tuple[int, int]]:
    """Random right against random wrong, each sample at most once (LLaVA-Reasoner, arXiv 2410.16198)."""
    return [
        (chosen[0], rejected[0])
        for chosen, rejected in zip(
            rng.sample(right, min(most, len(right))), rng.sample(wrong, min(most, len(wrong))), strict=False
        )
    ]


RULES: dict[str, Rule] = {"random": random_pairs}

JUDGED = """
SELECT sample.question, sample.id, sample.text, sample.token_ids, sample.author, verdict.outcome
FROM sample JOIN verdict ON verdict.sample = sample.id
WHERE sample.round = :round AND sample.author = 'policy'
   OR sample.author = 'teacher' AND sample.style = :style
      AND sample.question IN (SELECT question FROM round_question WHERE round = :round)
ORDER BY sample.question, sample.author, sample.round, sample.policy, sample."index" """


def pair(ctx: Context, state: Round) -> None:
    """Choose the round's pairs from its verdicts, all in one transaction.

    Only `wrong` is rejected: what could not be judged says nothing against its reasoning. Equal
    texts count once; a chain with a stray special token is left out. What the teacher wrote in any
    round counts. The choice depends on the verdicts and the run's seed alone.
    """
    questions: dict[int, list[tuple[int, str, str, str]]] = defaultdict(list)
    key = {"round": state.number, "style": ctx.config.sampling.style}
    for row in ctx.store.db.query(JUDGED, key):
        if not ctx.encoder.is_plain(unpack_token_ids(row["token_ids"])):
            continue
        questions[row["question"]].append((row["id"], row["text"], row["author"], row["outcome"]))
    settings = ctx.config.pairs
    rows = []
    for question, samples in questions.items():
        rng = random.Random(f"{ctx.config.run.seed}:{state.number}:{question}:pairs")
        rows += [
            (state.number, chosen, rejected, rule, 1.0) for chosen, rejected, rule in choose(samples, settings, rng)
        ]
    with ctx.store.transaction():
        ctx.store.db.conn.execute("DELETE FROM pair WHERE round = ?", (state.number,))
        ctx.store.db.conn.executemany(
            "INSERT INTO pair (round, chosen, rejected, rule, weight) VALUES (?, ?, ?, ?, ?)", rows
        )
    ctx.console.say(f"  {len(rows)} pairs from {len(questions)} questions")


def choose(
    samples: list[tuple[int, str, str, str]], settings: PairsConfig, rng: random.Random
) -> list[tuple[int, int, str]]:
    """Pairs of one question: by the rule within the pass-rate band, else teacher against policy."""
    own = [(id_, text, outcome) for id_, text, author, outcome in samples if author == "policy"]
    passed = sum(outcome == "correct" for _, _, outcome in own) / max(1, len(own))
    right = _distinct([(id_, text) for id_, text, outcome in own if outcome == "correct"])
    wrong = _distinct([(id_, text) for id_, text, outcome in own if outcome == "wrong"])
    if right:
        low, high = settings.band
        if not low <= passed <= high:
            return []
        chosen = RULES[settings.rule](right, wrong, settings.per_question, rng)
        return [(c, r, settings.rule) for c, r in chosen]
    taught = [(id_, text) for id_, text, author, outcome in samples if author == "teacher" and outcome == "correct"]
    return [(c, r, "fallback") for c, r in random_pairs(taught, wrong, 1, rng)]


def _distinct(samples: list[Sampled]) -> list[Sampled]:
    first: dict[str, Sampled] = {}
    for each in samples:
        first.setdefault(each[1], each)
    return list(first.values())
