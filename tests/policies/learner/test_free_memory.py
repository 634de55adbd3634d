"""Memory of the learner returns to the system, so that the sampler can use it."""

import subprocess
import sys

import pytest
import torch

from loop.planning.peaks import resident
from policies.learner.learner import LocalLearner
from tests.support.command_line import PROJECT

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


HALF_FREED = """
import sys, torch
from loop.planning.peaks import resident
from policies.learner.heap import freed_at_once

torch.ones(24 << 20, dtype=torch.uint8)  # from now on glibc takes blocks of this size from its heap
with freed_at_once(sys.argv[1] == "True"):
    blocks = [torch.ones(2 << 20, dtype=torch.uint8) for _ in range(100)]
    before = resident()
    del blocks[::2]
    print(before - resident())
"""


@pytest.mark.parametrize("at_once", [True, False])
def test_a_training_that_saves_memory_frees_tensors_at_once(at_once: bool) -> None:
    words = [sys.executable, "-c", HALF_FREED, str(at_once)]
    done = subprocess.run(words, cwd=PROJECT, capture_output=True, text=True, check=True)
    assert (int(done.stdout) > 90 * MIB) == at_once
