"""`completion` and `--version`."""

import os
import subprocess
import sys
import tomllib

import pytest

from tests.support.command_line import PROJECT
from tests.support.stores import run_here


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_script_for_each_shell_asks_the_program_itself(shell: str) -> None:
    assert f"_RATCHET_COMPLETE={shell}_complete" in run_here("completion", shell).stdout


def test_the_program_completes_its_commands() -> None:
    program = "import sys; sys.argv = ['ratchet']; import run_loop; run_loop.main()"
    words = {"_RATCHET_COMPLETE": "bash_complete", "COMP_WORDS": "ratchet rej", "COMP_CWORD": "1"}
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        cwd=PROJECT,
        env={**os.environ, **words},
        check=True,
    )
    assert done.stdout.split(",")[-1].strip() == "rejudge"


def test_the_version_is_that_of_the_project() -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    assert run_here("--version").stdout == f"ratchet {project['version']}\n"
