"""The probe: do sampler and learner give the same log-probabilities to the same chains?"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from policies import PolicyError
from policies.encoding import Encoder, Prompt


@dataclass(frozen=True)
class ProbeItem:
    """A fixed prompt and a fixed completion."""

    prompt: Prompt
    completion: tuple[int, ...]


@torch.no_grad()  # type: ignore[untyped-decorator]
def learner_logprobs(model: Any, encoder: Encoder, items: Sequence[ProbeItem]) -> list[float]:
    """Summed log-probability in nats of each completion, by the learner's own forward pass."""
    was_training = model.training
    model.eval()
    batch = encoder.batch([item.prompt for item in items], [item.completion for item in items])
    labels = encoder.labels(batch)[:, 1:]
    inputs = {k: v.to(model.device) for k, v in batch.items() if k != "completion_mask"}
    logits = model(**inputs).logits[:, :-1].float().cpu()
    model.train(was_training)
    kept = labels != -100
    picked = logits.log_softmax(-1).gather(-1, labels.masked_fill(~kept, 0)[..., None])[..., 0]
    return [float(value) for value in (picked * kept).sum(dim=1)]


def largest_difference(learner: Sequence[float], sampler: Sequence[float], items: Sequence[ProbeItem]) -> float:
    """Largest difference in log-probability per token, in nats."""
    if not len(learner) == len(sampler) == len(items):
        raise PolicyError(f"the probe has {len(items)} items, the store {len(learner)}: the probe changed")
    pairs = zip(learner, sampler, items, strict=True)
    return max(abs(a - b) / len(item.completion) for a, b, item in pairs)
