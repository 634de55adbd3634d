"""Exit codes and messages of the command line: a user's mistake is one line."""

import pytest

from tests.support.command_line import run_command


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["statu"], "error: No such command 'statu'"),
        (["show"], "error: Missing argument 'DIR'; see "),
        (["show", "x"], "error: Missing argument '{question|sample|pair|round|policy}'. Choose from: question, sample"),
        (["show", "x", "lines"], "error: Invalid value for '{question|sample|pair|round|policy}': 'lines' is not one"),
        (["run", "--rounds", "abc"], "error: Invalid value for '--rounds': 'abc' is not a valid integer range; see "),
        (["log", "x", "--jso"], "error: No such option '--jso'. (Did you mean one of: "),
    ],
)
def test_a_wrong_word_is_one_line_with_its_help(words: list[str], said: str) -> None:
    done = run_command(*words, check=2)
    assert done.stdout == ""
    assert done.stderr.startswith(said)
    assert done.stderr.count("\n") == 1
    assert done.stderr.endswith(" --help'\n")


def test_no_command_prints_the_help() -> None:
    assert "Commands:" in run_command(check=2).stderr
