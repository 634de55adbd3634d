"""Pairs whose common beginning is computed once: prompt, images and all tokens before the two answers differ.

A batch of pairs has every prompt twice. Here both answers follow one prompt in one row, as two branches that do not
see each other (a prefix tree of two leaves), and the results have the form of two rows.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

FULL_ATTENTION = "full_attention"
PLAIN_ARGUMENTS = {"input_ids", "attention_mask"}
"""What a model may be given per token; what else it is given has one row per image or sequence."""

CLOSE = {torch.float32: 1e-4, torch.bfloat16: 0.1, torch.float16: 0.02}
"""How far, relative to the largest, results may lie from those of whole rows."""


@dataclass(frozen=True)
class Branches:
    """Two sides in one row of tokens: the first side whole, then the second from where it differs.

    `source`: for each place of a row its index in the two sides joined end to end, (rows, places).
    `positions`: the position of each place in its own side. `mask`: the places that each place attends to,
    (rows, 1, places, places).
    `places`: for each position of both sides its place in the row, (2 * rows, positions).
    """

    source: torch.Tensor
    positions: torch.Tensor
    mask: torch.Tensor
    places: torch.Tensor


def branches(input_ids: torch.Tensor, attention_mask: torch.Tensor) -> Branches:
    """The layout of right-padded pairs, all first sides before all second ones: both of shape (2 * rows, positions).

    Every pair must begin with the same token.
    """
    (first, second), (length, other) = input_ids.chunk(2), attention_mask.sum(1, keepdim=True).chunk(2)
    at = torch.arange(first.shape[1], device=first.device)[None]
    same = (first == second) & (at < torch.minimum(length, other))
    shared = same.cumprod(1).sum(1, keepdim=True)
    place = torch.arange(int((length + other - shared).max()), device=first.device)[None]
    in_first, used = place < length, place < length + other - shared
    positions = torch.where(in_first, place, shared + place - length)
    source = torch.where(in_first, place, first.shape[1] + positions).clamp(max=2 * first.shape[1] - 1)
    key, asking = place[:, None, :], place[:, :, None]
    other_branch = (asking >= length[:, None]) & (key >= shared[:, None]) & (key < length[:, None])
    mask = (key <= asking) & used[:, None] & ~other_branch
    mask |= asking == key  # padding sees itself: no row of the mask is empty
    own = at.expand_as(first)
    places = torch.cat((own, torch.where(own < shared, own, length + own - shared))).clamp(max=place.shape[1] - 1)
    return Branches(source, positions.clamp(min=0), mask[:, None], places)


def can_share(config: Any) -> bool:
    """Whether every layer of the text model attends to the whole sequence, and positions increase by one per token."""
    text = config.get_text_config()
    layers = getattr(text, "layer_types", None) or [FULL_ATTENTION]
    rope = {**(getattr(text, "rope_scaling", None) or {}), **(getattr(text, "rope_parameters", None) or {})}
    window = getattr(text, "sliding_window", None) if getattr(text, "use_sliding_window", True) else None
    return (
        set(layers) == {FULL_ATTENTION}
        and not (window and not getattr(text, "layer_types", None))
        and "mrope_section" not in rope
        and getattr(text, "_attn_implementation", None) in ("sdpa", "eager")
        and not getattr(config, "is_encoder_decoder", False)
    )


@contextmanager
def shared_prefixes(model: Any, trial: dict[str, torch.Tensor]) -> Iterator[bool]:
    """Let the model compute batches of pairs with their common beginning once, if it gives the same for a trial batch.

    `trial` is a batch of pairs in the model's input format. Yields whether the results are the same; if not, the model
    is not changed.
    """
    if not can_share(model.config) or not trial["input_ids"].shape[0]:
        yield False
        return
    # Adapters are wrapped around the model, and have another base model.
    whole_model = model.get_base_model() if hasattr(model, "get_base_model") else model
    backbone, layouts = whole_model.base_model, list[Branches | None]()

    def before(_: Any, arguments: tuple[Any, ...], given: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        packed = None if arguments else _packed(given)
        layouts.append(packed and packed[1])
        return arguments, packed[0] if packed else given

    def after(_: Any, __: Any, result: Any) -> Any:
        if layout := layouts.pop():
            states = result.last_hidden_state
            index = layout.places.unsqueeze(-1).expand(-1, -1, states.shape[-1])
            result.last_hidden_state = torch.cat([states.gather(1, side) for side in index.chunk(2)])
        return result

    whole = _states(backbone, trial)
    hooks = [backbone.register_forward_pre_hook(before, with_kwargs=True), backbone.register_forward_hook(after)]
    try:
        if agrees := _agree(whole, _states(backbone, trial), trial["attention_mask"]):
            yield True
    finally:
        for hook in hooks:
            hook.remove()
    if not agrees:
        yield False


def _packed(given: dict[str, Any]) -> tuple[dict[str, Any], Branches] | None:
    """The model's arguments with every pair in one row; None if they are not pairs with a common beginning."""
    ids, mask = given.get("input_ids"), given.get("attention_mask")
    if ids is None or mask is None or mask.shape != ids.shape or len(ids) % 2 or (ids[:, 0] != ids[0, 0]).any():
        return None
    tensors = {name: value for name, value in given.items() if torch.is_tensor(value) and name not in PLAIN_ARGUMENTS}
    halves = {name: value.chunk(2) for name, value in tensors.items() if len(value) % 2 == 0}
    per_token = any(value.shape[:2] == ids.shape for value in tensors.values())
    if per_token or len(halves) < len(tensors) or any(not torch.equal(*half) for half in halves.values()):
        return None
    layout = branches(ids, mask)
    own = {
        "input_ids": torch.cat(ids.chunk(2), 1).gather(1, layout.source),
        "attention_mask": layout.mask,
        "position_ids": layout.positions,
    }
    return {**given, **own, **{name: first for name, (first, _) in halves.items()}}, layout


@torch.no_grad()  # type: ignore[untyped-decorator]
def _states(backbone: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """The last hidden states, without dropout."""
    was_training = backbone.training
    backbone.eval()
    states: torch.Tensor = backbone(**batch, use_cache=False).last_hidden_state
    backbone.train(was_training)
    return states


def _agree(whole: torch.Tensor, shared: torch.Tensor, mask: torch.Tensor) -> bool:
    if whole.shape != shared.shape:
        return False
    kept = mask.bool()
    away = (whole[kept].float() - shared[kept].float()).abs().max()
    return bool(away <= CLOSE[whole.dtype] * whole[kept].float().abs().max())
