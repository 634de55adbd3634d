"""An algorithm of one's own: one class, one line in the table of stages, and a round trains with it."""

import json
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from trl import SFTTrainer

from loop.config.load import parse_config
from loop.config.run_identity import record_run
from loop.context import Context, Stage
from loop.phases.update import update
from loop.session import Parts, open_session
from loop.terminal.console import Console
from loop.training.stages import STAGES
from policies.learner.items import SftItem
from policies.learner.sft import Sft
from policies.verifier import ScoredChain
from store import open_store
from store.new_questions import NewQuestion, add_questions
from store.questions import find_questions
from store.rounds import Round, get_policy, get_round, start_round


class Unlikelihood(Sft):
    """Makes completions less likely: the sign of SFT's loss is turned round."""

    def trainer(self, **common: Any) -> SFTTrainer:
        class Trainer(SFTTrainer):  # type: ignore[misc]
            def compute_loss(self, *arguments: Any, **options: Any) -> Any:
                loss = super().compute_loss(*arguments, **options)
                return (-loss[0], loss[1]) if isinstance(loss, tuple) else -loss

        return Trainer(**common)


def answers_to_avoid(ctx: Context, round_: Round) -> Sequence[SftItem]:
    """Every question with an answer that it does not have."""
    questions = find_questions(ctx.store, "split = 'train' ORDER BY id")
    return [SftItem(ctx.prompt(q, "cot"), tuple(ctx.encoder.completion_ids("### Answer: grey"))) for q in questions]


UNLIKELIHOOD = Stage("unlikelihood", lambda config: config.rft, answers_to_avoid, lambda ctx: Unlikelihood())


@pytest.mark.heavy
def test_a_new_algorithm_is_one_class_and_one_table_line(text_model: Path, tmp_path: Path) -> None:
    config = parse_config(
        {
            "policy": {"model": str(text_model), "dtype": "float32"},
            "questions": {"source": "jsonl", "path": "unused.jsonl"},
            "teacher": {"enabled": False},
            "rft": {"learning_rate": 1e-3, "batch_size": 4, "warmup_ratio": 0.0},
        },
        "here",
    )
    stages = replace(STAGES, rounds=(*STAGES.rounds, UNLIKELIHOOD))
    with closing(open_store(tmp_path, create=True)) as store:
        record_run(store, config)
        names = [f"Which colour is number {n}?" for n in range(8)]
        add_questions(store, [NewQuestion(name, ["red"], [], "train", "test", "exact") for name in names])
        add_questions(store, [NewQuestion("Which colour?", ["red"], [], "test", "test", "exact")])
        with open_session(store, config, tmp_path, Console(quiet=True), Parts(stages=stages)) as (ctx, _):
            start_round(store, 1, "update", 0, [])
            before = _logprob(ctx, 0)
            update(ctx, get_round(store, 1))
            made = get_policy(store, 1)
            assert made.made_by == "unlikelihood"
            assert _logprob(ctx, 1) < before
        (training,) = store.rows("SELECT items, steps, metrics FROM training")
        assert (training["items"], training["steps"]) == (8, 2)
        assert json.loads(training["metrics"])["unlikelihood"]["loss"] < 0


def _logprob(ctx: Context, policy: int) -> float:
    """Log-probability in nats of what is to be avoided, under a policy."""
    item = answers_to_avoid(ctx, get_round(ctx.store, 1))[0]
    ((*tokens,),) = ctx.learner.token_logprobs(ctx.load_policy(policy), [ScoredChain(item.prompt, item.completion)])
    return sum(tokens)
