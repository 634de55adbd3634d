"""Adds the pages of the site that lie outside of `docs/`: README, CONTRIBUTING, CHANGELOG and the shortest loop.

MkDocs loads this file as a hook (`mkdocs.yml`). Links are written for GitHub in every file, so they are changed here to
lead to the site's pages.
"""

import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

PROJECT = Path(__file__).resolve().parent.parent.parent
PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "examples/minimal_loop.py": "minimal_loop.md",
}
"""File of the project -> page of the site."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add a page for each file of `PAGES`."""
    for name, page in PAGES.items():
        text = (PROJECT / name).read_text()
        if name.endswith(".py"):
            module = name.removesuffix(".py").replace("/", ".")
            text = f"# The loop in one file\n\n`{name}`, run by `python -m {module}`:\n\n```python\n{text}```\n"
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Change the targets of links from the project's folders to the site's."""
    for name, target in PAGES.items():
        markdown = re.sub(rf"\]\((?:\.\./)?{re.escape(name)}(?=[)#])", f"]({target}", markdown)
    return re.sub(r"\]\(docs/", "](", markdown)
