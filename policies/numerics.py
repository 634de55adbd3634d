"""The properties of a machine that change floating-point sums, and so the path of a run with the same seed."""

import os
import platform
from functools import lru_cache
from pathlib import Path

import torch

VARIABLES = ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA")
"""What lowers the instruction set that PyTorch and oneDNN use, so that one machine computes as another."""


def numerics() -> dict[str, str | int]:
    """Processor, instruction set and threads of PyTorch, the accelerator if there is one, and versions."""
    found: dict[str, str | int] = {
        "processor": _processor(),
        "isa": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }
    if torch.cuda.is_available():
        found |= {"accelerator": torch.cuda.get_device_name(), "cuda": str(torch.version.cuda)}
    return found | {name: os.environ[name] for name in VARIABLES if name in os.environ}


@lru_cache
def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
