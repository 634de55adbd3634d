"""Another clock and a bad disk for processes of the soak: `faults.c`, which reads the faults from a shared file."""

import mmap
import os
import shutil
import struct
import subprocess
from pathlib import Path

FIELDS = 5


class Machine:
    """The faults of the machine at the moment, for the processes that have `environment`."""

    def __init__(self, folder: Path, full_folder: Path) -> None:
        """Builds the library in `folder`; the disk that can be full is that of `full_folder`. Needs gcc."""
        library, shared = folder / "faults.so", folder / "faults"
        source = Path(__file__).with_name("faults.c")
        compiler = shutil.which("gcc")
        if compiler is None:
            raise SystemExit("the soak needs gcc: 'apt-get install gcc'")
        subprocess.run([compiler, "-shared", "-fPIC", "-O2", "-o", library, source, "-ldl"], check=True)
        shared.write_bytes(bytes(8 * FIELDS))
        with shared.open("r+b") as file:
            self._shared = mmap.mmap(file.fileno(), 8 * FIELDS)
        self.environment = {
            **os.environ,
            "PYTHONFAULTHANDLER": "1",
            "LD_PRELOAD": str(library),
            "SOAK_FAULTS": str(shared),
            "SOAK_FOLDER": str(full_folder.resolve()),
        }

    def clock(self, seconds: float) -> None:
        """Move the clock by `seconds` from now on."""
        self._set(0, int(seconds * 1000))

    def slow(self, flush_ms: int, write_us: int) -> None:
        """Make every flush and every write take this much longer from now on."""
        self._set(1, flush_ms)
        self._set(2, write_us)

    def full(self, full: bool) -> int:
        """Make the disk full, or free again; return the number of writes that have failed so far."""
        self._set(3, int(full))
        return int(struct.unpack_from("q", self._shared, 8 * 4)[0])

    def _set(self, field: int, value: int) -> None:
        struct.pack_into("q", self._shared, 8 * field, value)
