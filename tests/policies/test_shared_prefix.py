"""Pairs with their common beginning computed once give what pairs computed whole give."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from transformers import AutoConfig, LlamaConfig, LlamaForCausalLM, Qwen2Config

from policies.encoding import Encoder, Prompt
from policies.learner.learner import LocalLearner
from policies.shared_prefix import branches, can_share, shared_prefixes
from policies.verifier import ScoredChain, token_logprobs
from tests.support.command_line import BASE_MODEL

TOKENS = st.lists(st.integers(1, 3), max_size=6)
PAIRS = st.lists(st.tuples(TOKENS, TOKENS), min_size=1, max_size=5)


def padded(pairs: Sequence[tuple[list[int], list[int]]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Pairs behind one first token: ids and mask, first sides before second ones."""
    rows = [torch.tensor([9, *side]) for number in (0, 1) for side in (pair[number] for pair in pairs)]
    ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    lengths = torch.tensor([len(row) for row in rows])
    return ids, (torch.arange(ids.shape[1])[None] < lengths[:, None]).long()


@given(PAIRS)
def test_each_token_sees_the_tokens_before_it_on_its_side(pairs: list[tuple[list[int], list[int]]]) -> None:
    ids, mask = padded(pairs)
    layout = branches(ids, mask)
    row = torch.cat(ids.chunk(2), 1).gather(1, layout.source)
    for number, places in enumerate(layout.places):
        at = number % len(pairs)
        for position in range(int(mask[number].sum())):
            seen = layout.mask[at, 0, places[position]].nonzero()[:, 0]
            assert row[at, seen].tolist() == ids[number, : position + 1].tolist()
            assert layout.positions[at, seen].tolist() == list(range(position + 1))


@given(PAIRS)
def test_what_both_sides_begin_with_is_in_the_row_once(pairs: list[tuple[list[int], list[int]]]) -> None:
    layout = branches(*padded(pairs))
    shared = [
        next((n for n, (a, b) in enumerate(zip(x, y, strict=False)) if a != b), min(len(x), len(y))) for x, y in pairs
    ]
    assert layout.source.shape[1] == max(1 + len(x) + len(y) - s for (x, y), s in zip(pairs, shared, strict=True))


@pytest.fixture(scope="module")
def llama() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=16, hidden_size=32, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=64, initializer_range=0.3,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


@settings(max_examples=30)
@given(PAIRS)
def test_states_and_gradients_are_those_of_whole_rows(
    llama: LlamaForCausalLM, pairs: list[tuple[list[int], list[int]]]
) -> None:
    ids, mask = padded(pairs)
    inputs = {"input_ids": ids, "attention_mask": mask}
    expected = gradients(llama, inputs)
    with shared_prefixes(llama, inputs) as shares:
        assert shares
        found = gradients(llama, inputs)
    for own, other in zip(found, expected, strict=True):
        torch.testing.assert_close(own, other, rtol=1e-3, atol=1e-4)


def gradients(model: Any, inputs: dict[str, torch.Tensor]) -> list[torch.Tensor]:
    model.zero_grad()
    logits = model(**inputs, use_cache=False).logits[inputs["attention_mask"].bool()]
    logits.square().mean().backward()
    return [logits.detach(), *(parameter.grad.clone() for parameter in model.parameters())]


def test_a_pair_is_computed_in_one_row(llama: LlamaForCausalLM) -> None:
    ids, mask = padded([([1, 2, 3], [1, 2, 2, 2])])
    with rows_of_layers(llama) as rows, shared_prefixes(llama, {"input_ids": ids, "attention_mask": mask}):
        rows.clear()
        llama(input_ids=ids, attention_mask=mask)
        assert rows == [(1, 6), (1, 6)]


def test_a_batch_that_is_not_of_pairs_is_computed_as_it_is(llama: LlamaForCausalLM) -> None:
    ids, mask = padded([([1, 2, 3], [1, 2, 2, 2])])
    other = torch.tensor([[1, 2], [3, 4], [5, 6]])
    expected = llama(input_ids=other, attention_mask=torch.ones_like(other)).logits
    with shared_prefixes(llama, {"input_ids": ids, "attention_mask": mask}):
        found = llama(input_ids=other, attention_mask=torch.ones_like(other)).logits
        alone = llama(input_ids=other[:2], attention_mask=torch.ones_like(other[:2])).logits
    assert torch.equal(found, expected)
    torch.testing.assert_close(alone, expected[:2])


def test_a_model_unfit_for_shared_prefixes_is_left_unchanged(llama: LlamaForCausalLM) -> None:
    ids, mask = padded([([1, 2, 3], [1, 2, 2, 2])])
    inputs = {"input_ids": ids, "attention_mask": mask}

    own = llama.model.forward
    llama.model.forward = lambda **given: own(**{**given, "position_ids": None})  # counts places in the row
    try:
        with shared_prefixes(llama, inputs) as shares:
            assert not shares
            assert not llama.model._forward_pre_hooks
    finally:
        del llama.model.forward


def test_sliding_windows_and_image_grid_positions_are_not_shared(text_model: Path) -> None:
    assert can_share(AutoConfig.from_pretrained(text_model, attn_implementation="sdpa"))
    sliding = Qwen2Config(use_sliding_window=True, sliding_window=8, max_window_layers=0, attn_implementation="sdpa")
    assert not can_share(sliding)
    grid = Qwen2Config(
        rope_parameters={"rope_type": "default", "rope_theta": 1e4, "mrope_section": [1, 1, 2]},
        attn_implementation="sdpa",
    )
    assert not can_share(grid)
    assert not can_share(Qwen2Config(attn_implementation="flash_attention_2"))


@pytest.mark.heavy
def test_pairs_with_images_score_as_their_sides_alone() -> None:
    encoder = Encoder(str(BASE_MODEL), lambda name: Image.new("RGB", (64, 64), name))
    model = LocalLearner(encoder).load(BASE_MODEL)
    texts = ["a red circle", "a red square there", "no", "yes it is", "teal", "blue", "a red circle"]
    chains = [
        ScoredChain(Prompt(f"What is there? {n // 2}", ("red",) * (n // 2 % 3)), tuple(encoder.completion_ids(text)))
        for n, text in enumerate([*texts, "a red circle"])
    ]
    with rows_of_layers(model) as rows:
        found = token_logprobs(model, encoder, chains, sides=2)
    assert {count for count, _ in rows} == {8, 4}  # the trial whole, then one row for each pair
    expected = token_logprobs(model, encoder, chains)
    assert [len(each) for each in found] == [len(chain.completion) for chain in chains]
    for own, other in zip(found, expected, strict=True):
        assert own == pytest.approx(other, abs=1e-4)


@contextmanager
def rows_of_layers(model: Any) -> Iterator[list[tuple[int, int]]]:
    """(rows, tokens) that each layer of the text model is given."""
    rows, inner = list[tuple[int, int]](), model.model
    hooks = [
        layer.register_forward_pre_hook(lambda _, given: rows.append(tuple(given[0].shape[:2])))
        for layer in getattr(inner, "text_model", inner).layers
    ]
    yield rows
    for hook in hooks:
        hook.remove()
