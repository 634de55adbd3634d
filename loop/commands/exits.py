"""How the program ends: its exit codes, and a user's mistake as one line instead of a traceback."""

import errno
import io
import os
import sqlite3
import sys
from collections.abc import Callable

import click

from loop.errors import InputError, LoopError
from loop.terminal.escape import block
from policies import PolicyError
from store import RunLocked, StoreError
from store.database import FULL, OPENED
from store.errors import NoRunError, StoreDamagedError

FAILURE, BAD_INPUT, INTERRUPTED = 1, 2, 130


def run_command_line(command_line: Callable[[], object]) -> None:
    """Run it; whatever a user or a machine can mend is said in one line, with an exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A terminal that lacks a character gets its number.
            stream.reconfigure(errors="backslashreplace")
    OPENED.clear()
    try:
        command_line()
    except click.ClickException as error:
        error.show()
        sys.exit(BAD_INPUT)
    except (InputError, NoRunError) as error:
        _fail(error, BAD_INPUT)
    except BrokenPipeError:
        # Whoever read our output has gone; Python flushes it once more when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(FAILURE)
    except _failures() as error:
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


def _is_full(error: OSError | sqlite3.Error) -> bool:
    return getattr(error, "errno", None) in (errno.ENOSPC, errno.EFBIG) or FULL.search(str(error)) is not None


def _may_be_damage(error: Exception) -> bool:
    """Whether an error may come of what a damaged store holds: that may be anything. The look takes a minute a GB."""
    of_the_system = isinstance(error, OSError) and error.errno is not None
    return not of_the_system and not isinstance(error, RuntimeError | ImportError)


def _damage() -> StoreDamagedError | None:
    """What is damaged in a store that this process has opened, if anything is."""
    from store.maintenance.damage import find_damage

    for path in sorted(OPENED):
        if path.exists() and (found := next(find_damage(path), None)) is not None:
            return StoreDamagedError(path, found)
    return None


def _failures() -> tuple[type[Exception], ...]:
    """Errors that are one line to the user; looked up only once something was raised."""
    from judges import JudgeSpecError

    return LoopError, PolicyError, StoreError, RunLocked, JudgeSpecError


def _fail(message: object, code: int) -> None:
    click.echo(f"error: {block(message)}", err=True)
    sys.exit(code)
