"""Finds the files that Ratchet ships beside its code: `configs/` and `models/`."""

from importlib import metadata
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent.parent
"""The checkout, or the folder into which `loop` was installed."""

PACKAGE = "ratchet-loop"
SHARE = Path("share", "ratchet")


def is_checkout() -> bool:
    """Whether this code runs from a checkout (an editable installation is one)."""
    return (PROJECT / "pyproject.toml").is_file() and (PROJECT / "configs" / "recipes").is_dir()


def shipped_folder() -> Path:
    """The folder of `configs` and `models`: the checkout, or `share/ratchet` of the installation."""
    if is_checkout():
        return PROJECT
    # `pip install --target` puts it beside the code, but records another path.
    beside = PROJECT / SHARE
    if not beside.is_dir():
        for distribution in metadata.distributions(name=PACKAGE):
            for file in distribution.files or ():
                if file.match(f"{SHARE}/configs/*.toml"):
                    return Path(str(file.locate())).resolve().parent.parent
    return beside


CONFIGS = shipped_folder() / "configs"
RECIPES = CONFIGS / "recipes"
