"""Items that algorithms learn from, as token ids."""

from dataclasses import dataclass

from policies.encoding import Prompt


@dataclass(frozen=True)
class SftItem:
    """A prompt and the completion to imitate."""

    prompt: Prompt
    completion: tuple[int, ...]


@dataclass(frozen=True)
class PairItem:
    """A prompt with a chosen and a rejected completion, as the sampler wrote them.

    `reference` has the log-probabilities of both by DPO's reference, in nats; None until they are known. `sampled` has
    those that the sampler gave both while it served policy `sampled_by`, where one policy sampled them.
    """

    prompt: Prompt
    chosen: tuple[int, ...]
    rejected: tuple[int, ...]
    reference: tuple[float, float] | None = None
    sampled: tuple[float, float] | None = None
    sampled_by: int | None = None


@dataclass(frozen=True)
class GrpoItem:
    """A completion as the sampler wrote it, with its advantage within the completions of its prompt.

    `old` and `reference` have the log-probability of each of its tokens, in nats, before the first step and by the
    reference; empty until they are known.
    """

    prompt: Prompt
    completion: tuple[int, ...]
    advantage: float
    old: tuple[float, ...] = ()
    reference: tuple[float, ...] = ()
