"""The store is the only package with statements that change it."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.command_line import PROJECT

CHANGES = re.compile(
    r"\b(insert\s+(or\s+\w+\s+)?into|replace\s+into|update\s+(or\s+\w+\s+)?\S+\s+set|delete\s+from)\b", re.IGNORECASE
)


def outside_the_store() -> list[Path]:
    folders = ("loop", "policies", "judges")
    return [PROJECT / "run_loop.py", *(path for name in folders for path in sorted((PROJECT / name).rglob("*.py")))]


def changing_statements(program: str) -> list[str]:
    """The strings of a Python program that hold a statement which changes a database."""
    return [text for text in strings(ast.parse(program)) if CHANGES.search(text)]


def strings(tree: ast.AST) -> Iterator[str]:
    """Every string, with a name in place of what an f-string inserts."""
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "inserted" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


@pytest.mark.parametrize(
    "program",
    [
        'execute("INSERT INTO vote VALUES (1)")',
        'execute("insert or ignore into vote VALUES (1)")',
        'execute("REPLACE INTO vote VALUES (1)")',
        "execute(f\"UPDATE {table} SET outcome = 'wrong'\")",
        'execute("DELETE "\n"FROM vote")',
        'SQL = """\nWITH chosen AS (SELECT 1)\nDELETE FROM\nvote"""',
    ],
)
def test_a_statement_is_found_however_it_is_written(program: str) -> None:
    assert len(changing_statements(program)) == 1


def test_reading_and_prose_are_no_changes() -> None:
    program = '"""What an update sets, and what is deleted from it."""\nexecute("SELECT text FROM sample")'
    assert changing_statements(program) == []


def test_no_file_outside_the_store_changes_it() -> None:
    paths = outside_the_store()
    assert len(paths) > 100
    found = {str(path.relative_to(PROJECT)): changing_statements(path.read_text()) for path in paths}
    assert {name: statements for name, statements in found.items() if statements} == {}
