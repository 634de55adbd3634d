"""The documents: README's limits, links that lead somewhere, and pages that name files and functions of the code."""

import ast
import re
import tomllib
from functools import cache
from pathlib import Path

import pytest

from tests.support.command_line import PROJECT

README = (PROJECT / "README.md").read_text()
PAGES = sorted([*PROJECT.glob("*.md"), *PROJECT.glob("docs/*.md"), *PROJECT.glob("*/README.md")])
LINK = re.compile(r"\[[^\]\n]*\]\(([^)\s]+)\)")
CODE = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)


def words(text: str) -> int:
    return len(text.split())


def test_readme_is_short_and_begins_with_two_commands() -> None:
    before, _, _ = README.partition("\n## More\n")
    assert words(before) < 900
    for command in ("make demo", "make test", "make test-slow"):
        assert words(README[: README.index(command)]) < 150


def anchor(heading: str) -> str:
    """The anchor of a heading, as GitHub and Python-Markdown both make it."""
    plain = re.sub(r"[^\w\- ]", "", heading.replace("`", "").lower())
    return plain.strip().replace(" ", "-")


@cache
def anchors(page: Path) -> set[str]:
    return {anchor(heading) for heading in re.findall(r"^#+ (.+)$", CODE.sub("", page.read_text()), re.MULTILINE)}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(PROJECT)))
def test_every_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    for link in LINK.findall(CODE.sub("", page.read_text())):
        if link.startswith(("http:", "https:", "mailto:")):
            continue
        path, _, fragment = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{page.name}: {link}"
        assert not fragment or fragment in anchors(target), f"{page.name}: {link}"


def defined(file: Path) -> set[str]:
    """Names of functions, methods and classes of a module."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return {node.name for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, kinds)}


def rows(page: str, columns: int) -> list[list[str]]:
    """Cells of the page's tables that have `columns` columns, rulers left out."""
    lines = [line for line in (PROJECT / "docs" / page).read_text().splitlines() if line.startswith("| ")]
    cells = [re.split(r"(?<!\\)\|", line.strip("|")) for line in lines]
    return [[cell.strip() for cell in row] for row in cells if len(row) == columns and "---" not in row[0]]


def named(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def test_the_life_of_a_sample_names_files_and_functions() -> None:
    steps = [row for row in rows("life_of_a_sample.md", 4) if row[0] != "step"]
    assert len(steps) > 30
    for _, file, functions, what in steps:
        (path,) = named(file)
        assert set(named(functions)) <= defined(PROJECT / path), path
        for other in (each for each in named(what) if each.endswith(".py")):
            assert (PROJECT / other).is_file(), other


def test_the_paper_index_names_files_that_exist() -> None:
    methods = [row for row in rows("paper_index.md", 6) if row[0] != "method"]
    assert len(methods) > 20
    for _, _, file, recipe, _, _ in methods:
        paths = [*named(file), *(each for each in named(recipe) if each.endswith(".toml"))]
        assert paths
        for path in paths:
            assert (PROJECT / path).is_file(), path


def test_every_recipe_is_in_the_paper_index() -> None:
    listed = (PROJECT / "docs" / "paper_index.md").read_text()
    for recipe in sorted((PROJECT / "configs" / "recipes").glob("*.toml")):
        # Of no paper: the demo's own, and Online-DPO-R1, which is a repository.
        if recipe.stem not in ("ratchet", "online_dpo_r1"):
            assert f"`configs/recipes/{recipe.name}`" in listed


def test_the_changelog_has_the_version() -> None:
    version = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["version"]
    found = re.findall(r"^## (\S+)", (PROJECT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert found[:2] == ["Unreleased", version]
