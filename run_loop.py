"""The command line of Ratchet: `python run_loop.py COMMAND`, or `ratchet COMMAND` once installed.

A command is a file of `loop/commands/`, or of `loop/commands/views/` if it only looks at a run. What a command needs is
imported where it runs: those that only look answer in well under a second.
"""

from collections.abc import Sequence

import click

from loop.commands.add import add
from loop.commands.archive import archive
from loop.commands.backup import backup
from loop.commands.doctor import doctor
from loop.commands.drop import drop
from loop.commands.evaluate import evaluate
from loop.commands.exits import run_command_line
from loop.commands.import_pairs import import_
from loop.commands.judge import judge
from loop.commands.run import run
from loop.commands.views.check import check
from loop.commands.views.export import export
from loop.commands.views.log import log
from loop.commands.views.report import report
from loop.commands.views.serve import serve
from loop.commands.views.show import show
from loop.commands.views.status import status

COMMANDS = (run, add, drop, evaluate, judge, import_, archive, backup, doctor)
VIEWS = (log, status, check, show, export, report, serve)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
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
