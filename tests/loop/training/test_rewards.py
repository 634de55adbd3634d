"""Rewards and advantages, and that GRPO learns from them and from nothing else."""

import random
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from loop.config.update import GrpoConfig
from loop.training.grpo_items import group_advantages
from loop.training.pair_candidates import QuestionSamples
from loop.training.pair_rules import JudgedSample
from loop.training.rewards import advantages, answer, brevity, form, total_rewards
from policies.encoding import Encoder, Prompt
from policies.learner.base import TrainingSettings
from policies.learner.grpo import Grpo
from policies.learner.items import GrpoItem
from policies.learner.learner import LocalLearner
from policies.verifier import ScoredChain, token_logprobs

MIXED = GrpoConfig(groups="mixed")


def sample(outcome: str, tokens: int = 4, copies: int = 1) -> JudgedSample:
    return JudgedSample(tokens, "", (1,) * tokens, outcome, float(outcome == "correct"), copies=copies)


def group(*samples: JudgedSample) -> QuestionSamples:
    return QuestionSamples(1, list(samples), [], 0.5)


def found(settings: GrpoConfig, *samples: JudgedSample) -> list[float]:
    return [advantage for _, advantage in group_advantages(group(*samples), settings)]


def test_rewards_tell_right_from_wrong_and_form_from_none() -> None:
    samples = [sample("correct"), sample("wrong"), sample("unparsable"), sample("truncated")]
    assert answer(samples) == [1.0, 0.0, 0.0, 0.0]
    assert form(samples) == [1.0, 1.0, 0.0, 0.0]
    assert total_rewards(samples, {"answer": 1.0, "format": 0.5}) == [1.5, 0.5, 0.0, 0.0]


def test_brevity_counts_only_where_all_are_right() -> None:
    assert brevity([sample("correct", 10), sample("correct", 5)]) == [0.0, 0.5]
    assert brevity([sample("correct", 10), sample("wrong", 5)]) == [0.0, 0.0]


@given(st.lists(st.floats(0.0, 1.0), max_size=12), st.booleans())
def test_advantages_sum_to_nothing_and_keep_the_order(rewards: list[float], scale: bool) -> None:
    result = advantages(rewards, scale=scale)
    if result is None:
        assert len(rewards) < 2 or max(rewards) - min(rewards) < 1e-9
        return
    assert sum(result) == pytest.approx(0.0, abs=1e-6)
    for (one, first), (other, second) in pairwise(sorted(zip(rewards, result, strict=True))):
        assert first <= second
        assert one <= other


def test_a_text_counts_as_often_as_it_was_sampled() -> None:
    assert len(found(MIXED, sample("correct", copies=3), sample("wrong"))) == 4


def test_a_group_of_one_or_of_equal_rewards_teaches_nothing() -> None:
    assert found(MIXED, sample("correct")) == []
    assert found(MIXED, sample("wrong"), sample("wrong", 7)) == []
    assert found(MIXED, sample("correct", 3), sample("correct", 7)) == []
    assert found(MIXED) == []


def test_unjudged_and_cut_samples_are_left_out_of_groups() -> None:
    samples = [sample("correct"), sample("wrong"), sample("judge_error"), sample("truncated")]
    assert len(found(MIXED, *samples)) == 2
    assert len(found(MIXED.model_copy(update={"truncated": "wrong"}), *samples)) == 3


def test_all_right_groups_differ_in_brevity_and_are_not_scaled() -> None:
    settings = GrpoConfig(groups="all_right", rewards={"answer": 1.0, "brevity": 0.5})
    assert found(settings, sample("correct", 10), sample("correct", 5)) == pytest.approx([-0.125, 0.125])


CHOICES = ("red", "blue", "teal", "gray")


def learn(folder: Path, model_directory: Path, *, shuffled: bool) -> float:
    """By how much eight rounds of GRPO raise the mean probability of the right one of four answers."""
    encoder = Encoder(str(model_directory), lambda digest: None)  # type: ignore[arg-type, return-value]
    learner, rng = LocalLearner(encoder), random.Random(0)
    model = learner.load(model_directory)
    with torch.no_grad():  # answers of one token, about as likely as each other: every one is sampled at the start
        for parameter in model.parameters():
            parameter.mul_(0.5)
    questions = {Prompt(f"Say the {place} word."): CHOICES[n] for n, place in enumerate(("first", "second", "last"))}
    end = encoder.completion_ids("")
    completions = {choice: (encoder.completion_ids(choice)[0], *end) for choice in CHOICES}
    assert len(set(completions.values())) == len(CHOICES)

    def shares(prompt: Prompt) -> list[float]:
        chains = [ScoredChain(prompt, completion) for completion in completions.values()]
        sums = torch.tensor([sum(each) for each in token_logprobs(model, encoder, chains)])
        return list(torch.softmax(sums, 0).tolist())

    def right() -> float:
        return sum(shares(prompt)[CHOICES.index(answer)] for prompt, answer in questions.items()) / len(questions)

    before = right()
    settings = TrainingSettings(learning_rate=1e-3, epochs=1, batch_size=12, seed=0)
    for number in range(8):
        items = []
        for prompt, wanted in questions.items():
            drawn = rng.choices(CHOICES, shares(prompt), k=8)
            rewards = [float(each == wanted) for each in drawn]
            if shuffled:
                rng.shuffle(rewards)
            known = advantages(rewards, scale=True)
            items += [
                GrpoItem(prompt, completions[each], value) for each, value in zip(drawn, known or (), strict=False)
            ]
        if items:
            step = replace(settings, seed=number)
            model = learner.train(Grpo(max_tokens=8), model, items, step, folder, lambda *_: None).model
    return right() - before


@pytest.mark.heavy
def test_real_rewards_are_learned_and_shuffled_ones_gain_nothing(text_model: Path, tmp_path: Path) -> None:
    assert learn(tmp_path, text_model, shuffled=False) > 0.3
    assert learn(tmp_path, text_model, shuffled=True) < 0.2
