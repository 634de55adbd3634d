"""The reference of an update: where it is computed, and that no second model is in memory for it."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from loop.context import Context, Stage, Stages
from loop.phases.update import update
from loop.training.references import completion_references, pair_references
from loop.training.stages import dpo
from policies.encoding import Encoder, Prompt
from policies.learner.items import GrpoItem, PairItem
from policies.verifier import ScoredChain
from store import open_store
from store.packing import unpack_token_ids
from store.pairs import training_pairs
from store.rounds import get_round
from tests.support.update_session import session


def pairs(encoder: Encoder) -> list[PairItem]:
    """One of policy 1, one of policy 2, one that no single policy sampled."""
    item = PairItem(
        Prompt("What is there?"), tuple(encoder.completion_ids("red")), tuple(encoder.completion_ids("blue"))
    )
    sampled = replace(item, sampled=(-1.5, -2.5), sampled_by=1)
    return [sampled, replace(sampled, sampled_by=2), item]


SAMPLER = {"reference": "sampler"}


@pytest.mark.heavy
def test_pairs_of_the_starting_policy_have_the_samplers_scores(text_model: Path, tmp_path: Path) -> None:
    with session(text_model, tmp_path, learner=SAMPLER) as ctx:
        items = pair_references(ctx, pairs(ctx.encoder), start=1)
        assert [item.reference for item in items] == [(-1.5, -2.5), None, None]
        assert ctx.reporter.lines[-1] == (  # type: ignore[attr-defined]
            "  reference of 2 of 3 pairs by the learner: 1 not sampled by one policy as they are,"
            " 1 sampled by another policy than 1"
        )


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("tables", "start", "why"),
    [
        ({"policy": {"dtype": "bfloat16"}}, 1, "the sampler computes in bfloat16"),
        ({"update": {"mixed_precision": "bf16"}}, 1, "the learner computes in bfloat16"),
        ({}, None, "DPO starts after another stage of this update"),
    ],
)
def test_otherwise_the_learner_scores_and_says_why(
    text_model: Path, tmp_path: Path, tables: dict[str, Any], start: int | None, why: str
) -> None:
    tables = {**tables, "policy": {"model": str(text_model), "dtype": "float32", **tables.get("policy", {})}}
    with session(text_model, tmp_path, learner=SAMPLER, **tables) as ctx:
        assert all(item.reference is None for item in pair_references(ctx, pairs(ctx.encoder), start))
        assert why in ctx.reporter.lines[-1]  # type: ignore[attr-defined]


@pytest.mark.heavy
def test_the_cold_starts_policy_is_asked_and_dropped(text_model: Path, tmp_path: Path) -> None:
    tables: dict[str, Any] = {
        "update": {"reference": "cold_start"},
        "grpo": {"beta": 0.1, "reference": "cold_start"},
    }
    with session(text_model, tmp_path, **tables) as ctx:
        items = pair_references(ctx, pairs(ctx.encoder), start=2)
        grpo = completion_references(ctx, [GrpoItem(items[0].prompt, items[0].chosen, 1.0)], None)
        assert ctx.learner.in_memory() == 0  # type: ignore[attr-defined]
        chains = [ScoredChain(items[0].prompt, side) for side in (items[0].chosen, items[0].rejected)]
        expected = [sum(each) for each in ctx.learner.token_logprobs(ctx.load_policy(1), chains)]
        assert [item.reference for item in items] == [pytest.approx(expected, abs=1e-5)] * 3
        assert sum(grpo[0].reference) == pytest.approx(expected[0], abs=1e-5)
        assert pair_references(ctx, pairs(ctx.encoder), start=1) == pairs(ctx.encoder), "DPO's own start is asked later"


@pytest.mark.heavy
@pytest.mark.parametrize("reference", ["start", "cold_start"])
def test_one_model_is_in_memory_when_the_training_begins(text_model: Path, tmp_path: Path, reference: str) -> None:
    def items(ctx: Context, _: Any) -> Sequence[PairItem]:
        return pairs(ctx.encoder)

    stage = Stage("dpo", lambda config: config.update, items, dpo, pair_references)
    tables: dict[str, Any] = {"update": {"reference": reference, "learning_rate": 1e-3}}
    with session(text_model, tmp_path, Stages((), (stage,)), **tables) as ctx:
        update(ctx, get_round(ctx.store, 2))
        assert ctx.learner.while_training == 1  # type: ignore[attr-defined]
        assert get_round(ctx.store, 2).candidate_policy == 3


def test_a_pair_names_the_policy_that_sampled_both_sides(scripted_run_dir: Path) -> None:
    store = open_store(scripted_run_dir, read_only=True)
    rows = training_pairs(store, 1, 2)
    samples = {
        (row["question"], tuple(unpack_token_ids(row["token_ids"]))): row
        for row in store.rows("SELECT * FROM sample WHERE author = 'policy'")
    }
    by_policy = [row for row in rows if row["policy"] is not None]
    for row in by_policy:
        for side in ("chosen", "rejected"):
            sample = samples[row["question"], tuple(unpack_token_ids(row[side]))]
            assert (sample["policy"], sample["logprob"]) == (row["policy"], row[f"{side}_logprob"])
    assert by_policy
    assert len(by_policy) < len(rows), "the teacher's chains are nobody's samples"
    store.close()
