"""Measures the peak memory of a part of a process's life."""

import re
from pathlib import Path

STATUS = Path("/proc/self/status")
CLEAR = Path("/proc/self/clear_refs")
RESET_PEAK = "5"

_largest = 0


def resident() -> int | None:
    """Bytes of this process in memory now; None if /proc has no such figure."""
    return _figure("VmRSS")


def begin_stretch() -> bool:
    """Reset the peaks of host and card; False if that is not possible.

    The kernel keeps the peak exactly (VmHWM) and resets it when 5 is written to clear_refs (Linux 4.0 and later). A
    thread that samples would miss short peaks: a tile of logits lives for milliseconds, and native code may hold the
    interpreter's lock.
    """
    global _largest
    _largest = max(_largest, _figure("VmHWM") or 0)
    _reset_card()
    try:
        CLEAR.write_text(RESET_PEAK, encoding="ascii")
    except OSError:
        return False
    return True


def peak() -> int | None:
    """The most bytes of this process since `begin_stretch`."""
    return _figure("VmHWM")


def process_peak() -> int | None:
    """The most bytes of this process since it began, earlier parts included."""
    now = _figure("VmHWM")
    return None if now is None else max(_largest, now)


def card_peak() -> int | None:
    """The most bytes that PyTorch and vLLM held on the fullest card since `begin_stretch`; None without a card."""
    import torch

    if not torch.cuda.is_initialized():
        return None
    return max(int(torch.cuda.max_memory_reserved(card)) for card in range(torch.cuda.device_count()))


def _reset_card() -> None:
    import torch

    if torch.cuda.is_initialized():
        for card in range(torch.cuda.device_count()):
            torch.cuda.reset_peak_memory_stats(card)


def _figure(name: str) -> int | None:
    try:
        found = re.search(rf"^{name}:\s+(\d+) kB", STATUS.read_text(encoding="utf-8"), re.M)
    except OSError:
        return None
    return int(found[1]) * 1024 if found else None
