"""Weights in several files: whether those are there that belong together, and no other; headers alone are read."""

import json
from pathlib import Path

from safetensors import SafetensorError, safe_open

from policies import SettingError

INDEX = "model.safetensors.index.json"


def check_shards(directory: Path) -> None:
    """Raise SettingError, naming the file, where files are missing, foreign, or hold other tensors than the index says.

    vLLM starts with the files that the index names, and a swap takes every file there is: they must be the same.
    """
    found = {file.name for file in directory.glob("*.safetensors")}
    index = directory / INDEX
    if not index.is_file():
        if len(found) > 1:
            raise SettingError(
                f"policy.model: {directory} has {len(found)} files of weights and no {INDEX}; restore it, or take out"
                f" the files that are no part of the model ({', '.join(sorted(found))})"
            )
        return
    expected = _expected(index)
    if missing := sorted(expected.keys() - found):
        raise SettingError(f"policy.model: {directory / missing[0]} is missing, and {INDEX} names it; restore it")
    if foreign := sorted(found - expected.keys()):
        raise SettingError(
            f"policy.model: {directory / foreign[0]} is no part of the model, as {INDEX} says; take it out of the"
            " directory"
        )
    for name, tensors in sorted(expected.items()):
        if (own := _tensors(directory / name)) != tensors:
            odd = sorted(own ^ tensors)[0]
            raise SettingError(
                f"policy.model: {directory / name} is not the file that {INDEX} describes ({odd} is"
                f" {'not ' if odd in tensors else ''}in it); restore it"
            )


def _expected(index: Path) -> dict[str, set[str]]:
    """File -> names of its tensors."""
    files: dict[str, set[str]] = {}
    try:
        for tensor, file in json.loads(index.read_text(encoding="utf-8"))["weight_map"].items():
            files.setdefault(str(file), set()).add(tensor)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise SettingError(f"policy.model: {index} is no index of weights ({error!r}); restore it") from error
    return files


def _tensors(file: Path) -> set[str]:
    try:
        with safe_open(file, "numpy") as reader:
            return set(reader.keys())
    except (OSError, SafetensorError) as error:
        raise SettingError(f"policy.model: {file} is not whole ({error}); restore it") from error
