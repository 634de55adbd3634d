"""Rules of writing that can be checked: what a module is for, and how long a test's name is."""

import ast
import re
from pathlib import Path

import pytest

from tests.support.command_line import PROJECT

FOLDERS = ("loop", "policies", "judges", "store", "base_model", "benchmarks", "examples", "tests")
MODULES = sorted(path for folder in FOLDERS for path in (PROJECT / folder).rglob("*.py"))
LONGEST_NAME = 60


@pytest.mark.parametrize("folder", FOLDERS)
def test_module_docstrings_say_what_a_module_is(folder: str) -> None:
    """A verb, or the thing itself; not "What it does" or "Where it goes"."""
    for path in (path for path in MODULES if path.relative_to(PROJECT).parts[0] == folder):
        docstring = ast.get_docstring(ast.parse(path.read_text()))
        if docstring is not None:
            assert not re.match(r"(What|How|Who|Where|When|Does|Is)\b", docstring), path.relative_to(PROJECT)


def names_of_tests(path: Path) -> list[str]:
    """The test functions of a file."""
    nodes = ast.walk(ast.parse(path.read_text()))
    return [node.name for node in nodes if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")]


def test_names_of_tests_are_short() -> None:
    found = [name for path in MODULES if path.name.startswith("test_") for name in names_of_tests(path)]
    assert len(found) > 900
    assert [name for name in found if len(name) > LONGEST_NAME] == []
