"""The tree of errors in the docstring of `ratchet_error.py`, and their common base class."""

import ast
import builtins

import ratchet_error
from tests.support.command_line import PROJECT

PACKAGES = ("loop", "store", "policies", "judges")
BASE = "ratchet_error.py"
INTERNAL = {"TransientError", "MalformedCompletion", "LimitUsedUp", "_PoolClosed", "_NoValueError"}
"""Caught within `policies/` or within their module."""

Bases = dict[str, set[str]]


def bases_of_classes() -> Bases:
    """Class of the four packages -> the names of its bases."""
    paths = [PROJECT / BASE, *(path for package in PACKAGES for path in (PROJECT / package).rglob("*.py"))]
    nodes = [node for path in paths for node in ast.walk(ast.parse(path.read_text()))]
    return {
        node.name: {base.attr if isinstance(base, ast.Attribute) else getattr(base, "id", "") for base in node.bases}
        for node in nodes
        if isinstance(node, ast.ClassDef)
    }


def derived_from(roots: set[str], bases: Bases) -> set[str]:
    """The classes that have one of `roots` among their ancestors."""
    found: set[str] = set()
    while more := {name for name, parents in bases.items() if parents & (roots | found)} - found:
        found |= more
    return found


BUILT_IN = {name for name, each in vars(builtins).items() if isinstance(each, type) and issubclass(each, BaseException)}


def test_every_error_has_the_common_base_class() -> None:
    bases = bases_of_classes()
    errors = derived_from(BUILT_IN, bases) - {"RatchetError"}
    assert len(errors) > 20
    assert errors - derived_from({"RatchetError"}, bases) == INTERNAL


def test_the_tree_of_errors_names_every_error() -> None:
    tree = ratchet_error.__doc__ or ""
    errors = {name for name in derived_from(BUILT_IN, bases_of_classes()) if not name.startswith("_")}
    assert {name for name in errors if name not in tree} == set()


def test_the_base_class_imports_nothing() -> None:
    nodes = ast.walk(ast.parse((PROJECT / BASE).read_text()))
    assert not [node for node in nodes if isinstance(node, ast.Import | ast.ImportFrom)]
