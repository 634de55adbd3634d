"""The verifier: how much more a policy likes a chain than its reference does.

score(chain) = log pi_policy(chain) - log pi_reference(chain), in nats (LLaVA-Reasoner, arXiv
2410.16198, section 5; the implicit reward of DPO over beta, arXiv 2305.18290). Per token it turns
negative where a chain first goes wrong.
"""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch

from policies import PolicyError, first_line
from policies.encoding import IGNORED, Encoder, Prompt
from policies.shared_prefix import shared_prefixes

BATCH = 16
"""Chains a forward pass."""

LOGITS = 1 << 25
"""Logits computed at once, positions times words: 128 MiB in float32, whatever the vocabulary."""


@dataclass(frozen=True)
class ScoredChain:
    """A prompt and the completion to score, as token ids."""

    prompt: Prompt
    completion: tuple[int, ...]


@torch.no_grad()  # type: ignore[untyped-decorator]
def token_logprobs(
    model: Any,
    encoder: Encoder,
    chains: Sequence[ScoredChain],
    progress: Callable[[int], object] = lambda _: None,
    mixed_precision: str = "no",
    sides: int = 1,
) -> list[list[float]]:
    """Log-probability in nats of every completion token, by the learner's own forward pass.

    `progress` is called with the number of chains done since the last call. Chains of similar length share a batch.
    With `mixed_precision` "bf16" the arithmetic is that of a training under bfloat16 autocast. With `sides` 2 the
    chains are pairs, one after the other, of one prompt each: the tokens that both begin with are computed once.
    """
    was_training = model.training
    model.eval()
    found: list[list[float]] = [[] for _ in chains]
    groups = [range(at, at + sides) for at in range(0, len(chains), sides)]
    groups.sort(key=lambda group: max(len(chains[n].completion) for n in group))
    at_once = BATCH // sides

    def batch_of(some: Sequence[range]) -> dict[str, torch.Tensor]:
        completions = ([chains[group[side]].completion for group in some] for side in range(sides))
        batch = encoder.batch([chains[group[0]].prompt for group in some], *completions)
        return {name: value.to(model.device) for name, value in batch.items()}

    share = shared_prefixes(model, batch_of(groups[:at_once])) if sides == 2 and groups else nullcontext()
    with share, torch.autocast(model.device.type, torch.bfloat16, enabled=mixed_precision == "bf16"):
        for start in range(0, len(groups), at_once):
            some = groups[start : start + at_once]
            batch = batch_of(some)
            labels = encoder.labels(batch)[:, 1:]
            del batch["completion_mask"]
            places = [group[side] for side in range(sides) for group in some]
            own = _own_logprobs(model, batch, labels)
            for n, values in zip(places, own.split([len(chains[n].completion) for n in places]), strict=True):
                found[n] = values.tolist()
            progress(len(places))
    model.train(was_training)
    return found


def _own_logprobs(model: Any, inputs: dict[str, torch.Tensor], labels: torch.Tensor) -> torch.Tensor:
    """Log-probabilities of the labels that are not IGNORED, row by row in one tensor.

    The output layer sees those positions alone, some at a time: the logits of all positions would be larger than
    everything else where the vocabulary is large.
    """
    head, hidden = model.get_output_embeddings(), list[torch.Tensor]()

    def keep_hidden(_: Any, arguments: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor]:
        hidden.append(arguments[0])
        return (arguments[0][:, :1],)  # the model itself goes on with one position a row

    hook = head.register_forward_pre_hook(keep_hidden)
    try:
        first = model(**inputs, use_cache=False).logits[:, 0].float()
    except ValueError as error:
        if "do not match" not in str(error):
            raise
        raise PolicyError(
            f"{type(model).__name__}: {first_line(error)}; its processor_config.json is not of this model, restore it"
        ) from error
    finally:
        hook.remove()
    finish = _after_head(model.config.get_text_config())
    states = hidden[0][:, :-1]
    if not torch.allclose(finish(head(hidden[0][:, 0]).float()), first, rtol=1e-2, atol=1e-2):
        raise PolicyError(
            f"{type(model).__name__} changes its logits after the output layer in a way that is not known here;"
            " add it to policies/verifier.py"
        )
    mask = labels != IGNORED
    found = []
    positions = max(1, LOGITS // head.weight.shape[0])
    for at, targets in zip(states[mask].split(positions), labels[mask].split(positions), strict=True):
        logits = finish(head(at).float())
        found.append(logits.gather(-1, targets[:, None])[:, 0] - logits.logsumexp(-1))
    return torch.cat(found)


def _after_head(config: Any) -> Callable[[torch.Tensor], torch.Tensor]:
    """The change that some architectures make to the logits: a factor, a soft cap (as TRL 1.16 lists them)."""
    factor = next((value for name in FACTORS if (value := getattr(config, name, None)) is not None), None)
    divisor, cap = getattr(config, "logits_scaling", None), getattr(config, "final_logit_softcapping", None)
    if factor is None and divisor is not None:
        factor = divisor if config.model_type == "hyperclovax" else 1 / divisor

    def finish(logits: torch.Tensor) -> torch.Tensor:
        if factor is not None:
            logits = logits * factor
        return logits if cap is None else cap * torch.tanh(logits / cap)

    return finish


FACTORS = ("logit_scale", "output_multiplier", "lm_head_multiplier")
"""Keys of configurations that multiply the logits."""
