"""Exit codes of the program, and messages of one line instead of tracebacks for users' mistakes."""

import errno
import io
import os
import sqlite3
import sys
from collections.abc import Callable

import click

from loop.errors import InputError
from loop.terminal.escape import block
from policies import SettingError
from ratchet_error import RatchetError
from store.database import FULL, OPENED
from store.errors import NoRunError, StoreDamagedError

FAILURE, BAD_INPUT, INTERRUPTED = 1, 2, 130


def run_command_line(command_line: Callable[[], object]) -> None:
    """Run a command; mistakes and faults that a user can mend are printed as one line, with an exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # Characters that the terminal lacks are printed as numbers.
            stream.reconfigure(errors="backslashreplace")
    OPENED.clear()
    try:
        command_line()
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        sys.exit(BAD_INPUT)
    except click.ClickException as error:
        _fail(_usage_fault(error), BAD_INPUT)
    except (InputError, NoRunError, SettingError) as error:
        _fail(error, BAD_INPUT)
    except BrokenPipeError:
        # The reader of our output has gone; Python would flush it once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(FAILURE)
    except RatchetError as error:
        _fail(error, FAILURE)
    except (click.Abort, KeyboardInterrupt):
        _fail("interrupted; what was committed is kept", INTERRUPTED)
    except Exception as error:
        if isinstance(error, OSError | sqlite3.Error) and _is_full(error):
            _fail(
                f"the disk is full or failing ({error}); free some space and run again, nothing committed is lost",
                FAILURE,
            )
        if _may_be_damage(error) and (damage := _damage()) is not None:
            _fail(damage, FAILURE)
        if not isinstance(error, OSError | sqlite3.Error):
            raise
        _fail(f"{type(error).__name__}: {error}; nothing committed is lost", FAILURE)


def _usage_fault(error: click.ClickException) -> str:
    """A wrong word on the command line in one line, with the command whose help lists the right ones."""
    message = " ".join(error.format_message().split()).removesuffix(".")
    context = error.ctx if isinstance(error, click.UsageError) else None
    return message if context is None else f"{message}; see '{context.command_path} --help'"


def _is_full(error: OSError | sqlite3.Error) -> bool:
    return getattr(error, "errno", None) in (errno.ENOSPC, errno.EFBIG) or FULL.search(str(error)) is not None


def _may_be_damage(error: Exception) -> bool:
    """Whether an error may come from a damaged store, which may cause any error. The check takes a minute per GB."""
    of_the_system = isinstance(error, OSError) and error.errno is not None
    return not of_the_system and not isinstance(error, RuntimeError | ImportError)


def _damage() -> StoreDamagedError | None:
    """The damage in a store that this process has opened, if any."""
    from store.maintenance.damage import find_damage

    for path in sorted(OPENED):
        if path.exists() and (found := next(find_damage(path), None)) is not None:
            return StoreDamagedError(path, found)
    return None


def _fail(message: object, code: int) -> None:
    click.echo(f"error: {block(message)}", err=True)
    sys.exit(code)
