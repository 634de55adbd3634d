"""Resources of this machine: memory of the host and of its cards, and disk space."""

import shutil
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Machine:
    """Sizes in bytes. `host` is free now (None if unknown); `cards` are total sizes, because a run uses them alone."""

    host: int | None
    cards: tuple[int, ...]
    disk: int


def this_machine(run_dir: Path) -> Machine:
    """The machine of this process, and the disk of a present or future run directory."""
    import torch

    found = range(torch.cuda.device_count()) if torch.cuda.is_available() else ()
    cards = tuple(torch.cuda.get_device_properties(card).total_memory for card in found)
    return Machine(available_memory(), cards, free_disk(run_dir))


def free_disk(run_dir: Path) -> int:
    """Free disk space of a directory, or of the nearest existing parent."""
    return shutil.disk_usage(existing_folder(run_dir)).free


def existing_folder(run_dir: Path) -> Path:
    """The directory, or its nearest existing parent."""
    return next(folder for folder in (run_dir.absolute(), *run_dir.absolute().parents) if folder.exists())


def available_memory() -> int | None:
    """Free memory of the machine, or of this control group if less; None if unknown."""
    known = Path("/proc/meminfo")
    if not known.exists():
        return None
    kibibytes = next(line.split()[1] for line in known.read_text().splitlines() if line.startswith("MemAvailable"))
    limits = [int(kibibytes) * 1024]
    group = Path("/sys/fs/cgroup")
    if (group / "memory.max").exists() and (limit := (group / "memory.max").read_text().strip()) != "max":
        # Pages of files count as used, but are given back when something needs the room.
        pages = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        cached = int(pages.get("inactive_file", 0)) + int(pages.get("active_file", 0))
        limits.append(int(limit) - int((group / "memory.current").read_text()) + cached)
    return min(limits)
