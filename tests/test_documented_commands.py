"""Commands of the documents: the command line takes each, a finished run those that are quick, the store each query.

`tests/loop/test_your_data.py` runs those of the tutorial.
"""

import json
import os
import re
import shlex
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import click
import pytest

from loop.terminal.status_view import EXIT_CODES
from run_loop import cli
from tests.support.command_line import PROJECT
from tests.support.forked import run_forked
from tests.support.scripted_run import run_scripted, scripted_config

PAGES = sorted(
    [PROJECT / "README.md", PROJECT / "CONTRIBUTING.md", *PROJECT.glob("docs/*.md"), PROJECT / "deploy/README.md"]
)
BLOCK = re.compile(r"^```[a-z]*\n(.*?)^```", re.DOTALL | re.MULTILINE)
PROGRAM = re.compile(
    r"^(?:\$ )?(?:\S+=\S* )*(?:make setup && )?(?:\.venv/bin/)?python run_loop\.py (.*)$", re.MULTILINE
)
IN_README = re.compile(r"`([a-z]+ [^`]*)`")
OPTIONS = re.compile(r"^\| [^|]* \| (`--[^|]*)", re.MULTILINE)
QUERY = re.compile(r'sqlite3 (?:-\w+ )*\S+\.db "((?:SELECT|WITH)[^"]*)"')

ON_A_RUN = re.compile(r"\b[a-z]+ runs/(?:demo|heavy)\b")
LEFT_OUT = {
    "add ": "reads the model's tokenizer, which scripted weights lack",
    "evaluate ": "asks a model",
    "serve ": "answers until it is stopped",
    "log runs/demo --follow": "waits for rounds",
    "export runs/demo gguf": "needs llama.cpp",
    "push runs/demo me/policy --private": "needs the hub",
    "push runs/demo me/pairs": "needs the hub",
}
"""Beginnings of commands on a run that the test does not run, and why."""
OTHERS = {"question 32": "question 1", "pair 784": "pair 1"}
"""Numbers that a run of 18 questions does not have, and those in their places."""


def blocks(page: Path) -> list[str]:
    """The code blocks of a page, with continued lines joined."""
    return [block.replace("\\\n", " ") for block in BLOCK.findall(page.read_text())]


def documented() -> list[tuple[str, str]]:
    """(page, arguments) of every command of this project in a code block, and in README's table of tasks."""
    found = [(page.name, line) for page in PAGES for block in blocks(page) for line in PROGRAM.findall(block)]
    table = (PROJECT / "README.md").read_text().partition("## Commands by task")[2].partition("\n## ")[0]
    rows = [line for line in table.splitlines() if line.startswith("| ")]
    found += [("README.md", command) for row in rows for command in IN_README.findall(row)]
    cells = OPTIONS.findall((PROJECT / "docs" / "your_data.md").read_text())
    options = [option for cell in cells for option in re.findall(r"`(--[^`]*)`", cell)]
    return found + [("your_data.md", f"init --data scenes.parquet {option}") for option in options]


def arguments(line: str) -> list[str]:
    """The program's arguments in a line, without comment and redirection."""
    words = shlex.split(line, comments=True)
    ends = [n for n, word in enumerate(words) if word in ("<", ">", "|")]
    return words[: min(ends, default=len(words))]


@pytest.mark.parametrize(("page", "line"), sorted(set(documented())))
def test_the_command_line_takes_every_documented_command(page: str, line: str) -> None:
    name, *rest = arguments(line)
    command = cli.commands[name]
    try:
        command.make_context(name, rest)
    except click.BadParameter as error:  # a file of the example, which is not there
        if "does not exist" not in str(error):
            raise


def run_in_turn(folder: str, *lines: str) -> None:
    """Finish a run of four rounds in `folder`, and run the commands there; the last line has codes other than 0."""
    run_scripted(Path(folder, "runs", "demo"), scripted_config(Path(folder), run={"rounds": 4}))
    os.chdir(folder)
    codes = {}
    for line in lines:
        sys.stdout.write(f"$ {line}\n")
        try:
            cli.main(shlex.split(line), standalone_mode=False)
        except SystemExit as ended:
            codes[line] = ended.code
    sys.stdout.write("\n" + json.dumps(codes))


def test_a_finished_run_takes_the_quick_commands(tmp_path: Path) -> None:
    """In the order of the pages: what is imported was exported."""
    every = dict.fromkeys(shlex.join(arguments(line)) for _, line in documented())
    lines = [line for line in every if ON_A_RUN.match(line)]
    assert [beginning for beginning in LEFT_OUT if not any(line.startswith(beginning) for line in lines)] == []
    quick = [line for line in lines if not line.startswith(tuple(LEFT_OUT))]
    for number, other in OTHERS.items():
        quick = [line.replace(number, other) for line in quick]
    (tmp_path / "runs" / "demo").mkdir(parents=True)
    (tmp_path / "runs" / "heavy").symlink_to("demo")
    done = run_forked(run_in_turn, str(tmp_path), *quick)
    assert json.loads(done.stdout.splitlines()[-1]) == {"status runs/demo": EXIT_CODES["finished"]}, (
        done.stdout + done.stderr
    )
    for made in ("report.html", "pairs.parquet", "right.jsonl", "backups/monday/store.db"):
        assert (tmp_path / made).stat().st_size > 0


def test_the_store_answers_every_documented_query(scripted_run_dir: Path) -> None:
    queries = [query for page in PAGES for block in blocks(page) for query in QUERY.findall(block)]
    assert len(queries) >= 10
    with closing(sqlite3.connect(scripted_run_dir / "store.db")) as store:
        for query in queries:
            store.execute(query).fetchall()
