"""The command line of Ratchet: `python run_loop.py COMMAND`, or `ratchet COMMAND` once installed.

A command is a file of `loop/commands/`, or of `loop/commands/views/` if it only looks at a run. What a command needs is
imported where it runs: those that only look answer in well under a second.
"""

import tomllib
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import click

from loop.commands.add import add
from loop.commands.archive import archive
from loop.commands.backup import backup
from loop.commands.completion import completion
from loop.commands.doctor import doctor
from loop.commands.drop import drop
from loop.commands.evaluate import evaluate
from loop.commands.exits import run_command_line
from loop.commands.import_ import import_
from loop.commands.init import init
from loop.commands.inspect import inspect_
from loop.commands.judge import judge
from loop.commands.push import push
from loop.commands.rejudge import rejudge
from loop.commands.run import run
from loop.commands.views.check import check
from loop.commands.views.export import export
from loop.commands.views.log import log
from loop.commands.views.report import report
from loop.commands.views.serve import serve
from loop.commands.views.show import show
from loop.commands.views.status import status

COMMANDS = (
    init,
    inspect_,
    run,
    add,
    drop,
    evaluate,
    judge,
    rejudge,
    import_,
    archive,
    backup,
    push,
    doctor,
    completion,
)
VIEWS = (log, status, check, show, export, report, serve)


def print_version(context: click.Context, _: click.Parameter, wanted: bool) -> None:
    """The version that is installed, or that of the checkout, and end."""
    if wanted:
        click.echo(f"ratchet {_version()}")
        context.exit()


def _version() -> str:
    # The checkout first: another version may be installed beside it.
    project = Path(__file__).with_name("pyproject.toml")
    if project.is_file():
        return str(tomllib.loads(project.read_text(encoding="utf-8"))["project"]["version"])
    return version("ratchet-loop")


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=print_version, help="Show the version."
)
def cli() -> None:
    """Ratchet: iterative self-improvement for vision-language and language models.

    Rounds of sampling, judging, DPO, hot swap and evaluation; a candidate that is worse is rolled back.
    """


for command in (*COMMANDS, *VIEWS):
    cli.add_command(command)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line: these arguments, or those that the process was started with."""
    run_command_line(lambda: cli.main(args=arguments, standalone_mode=False))


if __name__ == "__main__":
    main()
