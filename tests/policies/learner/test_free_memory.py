"""Memory of the learner returns to the system, so that the sampler can use it."""

import torch

from loop.planning.peaks import resident
from policies.learner.learner import LocalLearner

MIB = 2**20


def test_memory_of_models_that_are_gone_leaves_the_process() -> None:
    learner = LocalLearner(None)  # type: ignore[arg-type]
    torch.ones(24 * MIB, dtype=torch.uint8)  # from now on glibc takes blocks of this size from its heap
    blocks = [torch.ones(MIB, dtype=torch.uint8) for _ in range(300)]
    last = torch.ones(MIB // 2, dtype=torch.uint8)  # what lies above them keeps the heap from shrinking by itself
    before = resident() or 0
    del blocks
    learner.free_memory()
    assert before - (resident() or 0) > 250 * MIB
    assert last.sum() == MIB // 2
