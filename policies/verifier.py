"""The verifier: how much more a policy likes a chain than its reference does.

score(chain) = log pi_policy(chain) - log pi_reference(chain), in nats (LLaVA-Reasoner, arXiv
2410.16198, section 5; the implicit reward of DPO over beta, arXiv 2305.18290). Per token it turns
negative where a chain first goes wrong.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from policies.encoding import IGNORED, Encoder, Prompt

BATCH = 16
"""Chains a forward pass; log-probabilities are then taken a chain at a time, at its own tokens only."""


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
) -> list[list[float]]:
    """Log-probability in nats of every completion token, by the learner's own forward pass.

    `progress` is told how many more chains are done. Chains of like length share a batch.
    """
    was_training = model.training
    model.eval()
    found: list[list[float]] = [[] for _ in chains]
    order = sorted(range(len(chains)), key=lambda n: len(chains[n].completion))
    for start in range(0, len(order), BATCH):
        places = order[start : start + BATCH]
        batch = encoder.batch([chains[n].prompt for n in places], [chains[n].completion for n in places])
        labels = encoder.labels(batch)[:, 1:]
        inputs = {k: v.to(model.device) for k, v in batch.items() if k != "completion_mask"}
        logits = model(**inputs).logits[:, :-1]
        for row, n in enumerate(places):
            mask = (labels[row] != IGNORED).to(logits.device)
            own = logits[row, mask].float()
            targets = labels[row].to(logits.device)[mask]
            found[n] = (own.gather(-1, targets[:, None])[:, 0] - own.logsumexp(-1)).tolist()
        progress(len(places))
    model.train(was_training)
    return found
