"""Chooses the pairs of one question, by the recipe's rule."""

import random

from loop.config.update import PairsConfig
from loop.training.pair_candidates import QuestionSamples
from loop.training.pair_rules import PAIR_RULES, random_pairs
from store.pairs import NewPair


def choose(own: QuestionSamples, settings: PairsConfig, teacher: bool, rng: random.Random) -> list[NewPair]:
    """Pairs of one question: by the rule if its pass rate is within the band, else teacher against policy."""
    if not settings.per_question:
        return []
    if any(sample.outcome == "correct" for sample in own.samples) or settings.rule in ("vote", "judged"):
        low, high = settings.band
        if settings.rule not in ("vote", "judged", "shortest_right") and not low <= own.pass_rate <= high:
            return []
        chosen = PAIR_RULES[settings.rule](own.samples, settings.per_question, rng)
        return [NewPair(each.chosen, each.rejected, settings.rule, each.weight) for each in chosen]
    if not teacher:
        return []
    wrong = [sample for sample in own.samples if sample.outcome == "wrong"]
    return [
        NewPair(c.chosen, c.rejected, "fallback", 1.0) for c in random_pairs([*own.teacher_samples, *wrong], 1, rng)
    ]
