"""Converts a policy to GGUF with llama.cpp's own converter, if it is installed: it knows the architectures."""

import shutil
import subprocess
import sys
from pathlib import Path

from loop.errors import InputError, LoopError

CONVERTER = "convert_hf_to_gguf.py"


def write_gguf(directory: Path, file: Path, llama_cpp: Path | None) -> int:
    """Convert a model directory; returns the size in bytes. `llama_cpp` is the folder with the converter.

    Raises InputError if there is no converter, and LoopError with the converter's last line if it fails. The file is
    written completely or not at all.
    """
    converter = _find(llama_cpp)
    if file.suffix != ".gguf":
        raise InputError(f"-o {file}: end it in .gguf")
    temporary = file.with_name(f"{file.stem}.partial.gguf")
    done = subprocess.run(  # noqa: S603  the converter that the user named
        [sys.executable, str(converter), str(directory.resolve()), "--outfile", str(temporary.resolve())],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode or not temporary.is_file():
        temporary.unlink(missing_ok=True)
        said = [line.strip() for line in f"{done.stdout}\n{done.stderr}".splitlines() if line.strip()]
        raise LoopError(f"{converter} does not convert {directory}: {said[-1] if said else 'it says nothing'}")
    temporary.replace(file)
    return file.stat().st_size


def _find(llama_cpp: Path | None) -> Path:
    if llama_cpp is not None:
        path = llama_cpp / CONVERTER
        if not path.is_file():
            raise InputError(f"--llama-cpp {llama_cpp}: has no {CONVERTER}; name the folder of llama.cpp's sources")
        return path
    found = shutil.which(CONVERTER)
    if found is None:
        raise InputError(
            f"{CONVERTER} is not on the PATH: it comes with llama.cpp's sources; get them, install their"
            " requirements/requirements-convert_hf_to_gguf.txt, and name their folder with --llama-cpp"
        )
    return Path(found)
